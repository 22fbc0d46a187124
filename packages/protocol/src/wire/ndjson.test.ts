import { expect, test } from 'vitest'
import { encodeJsonFrame, FRAME, FrameDecoder, type Frame } from './frames.ts'
import { ndjsonLine } from './ndjson.ts'

const json = (type: (typeof FRAME)['event'] | (typeof FRAME)['result'], value: unknown): Frame => {
  const [frame] = new FrameDecoder().push(encodeJsonFrame(type, value))
  if (frame === undefined) throw new Error('no frame')
  return frame
}

test('a frame of bytes is base64, a frame of JSON stands as it is, each on one line', () => {
  expect(ndjsonLine({ type: FRAME.stdout, payload: new Uint8Array([0, 255, 10]) })).toBe(
    '{"frame":"stdout","base64":"AP8K"}\n',
  )
  expect(ndjsonLine(json(FRAME.result, { text: 'a\nb', at: [1] }))).toBe(
    '{"frame":"result","value":{"text":"a\\nb","at":[1]}}\n',
  )
  expect(JSON.parse(ndjsonLine(json(FRAME.event, { type: 'started' })))).toEqual({
    frame: 'event',
    value: { type: 'started' },
  })
})

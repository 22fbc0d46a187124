const BLOCK = 512
const NAME_BYTES = 100

export interface TarMember {
  readonly name: string
  /** One character, as ustar has it: `0` file, `1` hard link, `2` symlink, `3` and `4` devices, `5` folder, `6` pipe. */
  readonly type?: '0' | '1' | '2' | '3' | '4' | '5' | '6'
  readonly content?: string | Buffer
  readonly link?: string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  /** Records of an extended header before it, such as `SCHILY.xattr.user.note` or a `path` beyond 100 bytes. */
  readonly pax?: Readonly<Record<string, string | Buffer>>
}

/** A tar written without any of our own code, so that it may hold what nobody should write. */
export const tarOf = (members: readonly TarMember[]): Buffer =>
  Buffer.concat([...members.flatMap(blocksOf), Buffer.alloc(2 * BLOCK)])

const blocksOf = (member: TarMember): Buffer[] => {
  const data = Buffer.from(member.content ?? '')
  const records = Buffer.concat(Object.entries(member.pax ?? {}).map(paxRecord))
  const extended = records.length === 0 ? [] : [header({ name: 'pax' }, 'x', records.length), padded(records)]
  return [...extended, header(member, member.type ?? '0', data.length), padded(data)]
}

/** `length key=value` and a newline; the length counts itself. */
const paxRecord = ([key, value]: readonly [string, string | Buffer]): Buffer => {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

const header = (member: TarMember, type: string, size: number): Buffer => {
  const { name, link = '', mode = 0o644, uid = 0, gid = 0 } = member
  const block = Buffer.alloc(BLOCK)
  block.write(name, 0, NAME_BYTES, 'latin1')
  block.write(octal(mode, 7), 100)
  block.write(octal(uid, 7), 108)
  block.write(octal(gid, 7), 116)
  block.write(octal(size, 11), 124)
  block.write(octal(1_700_000_000, 11), 136)
  block.write(' '.repeat(8), 148)
  block.write(type, 156)
  block.write(link, 157, NAME_BYTES, 'latin1')
  block.write('ustar\0' + '00', 257)
  if (type === '3' || type === '4') {
    block.write(octal(1, 7), 329)
    block.write(octal(3, 7), 337)
  }
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)}\0 `, 148)
  return block
}

const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')

const padded = (data: Buffer): Buffer => Buffer.concat([data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK)])

const BLOCK = 512

export interface TarMember {
  readonly name: string
  /** One character, as ustar has it: `0` file, `1` hard link, `2` symlink, `3` and `4` devices, `5` folder, `6` pipe. */
  readonly type?: '0' | '1' | '2' | '3' | '4' | '5' | '6'
  readonly content?: string | Buffer
  readonly link?: string
  readonly mode?: number
}

/** A tar written without any of our own code, so that it may hold what nobody should write. */
export const tarOf = (members: readonly TarMember[]): Buffer =>
  Buffer.concat([...members.flatMap(member), Buffer.alloc(2 * BLOCK)])

const member = ({ name, type = '0', content = '', link = '', mode = 0o644 }: TarMember): Buffer[] => {
  const data = Buffer.from(content)
  const header = Buffer.alloc(BLOCK)
  header.write(name, 0, 100, 'latin1')
  header.write(octal(mode, 7), 100)
  header.write(octal(0, 7), 108)
  header.write(octal(0, 7), 116)
  header.write(octal(data.length, 11), 124)
  header.write(octal(1_700_000_000, 11), 136)
  header.write(' '.repeat(8), 148)
  header.write(type, 156)
  header.write(link, 157, 100, 'latin1')
  header.write('ustar\0' + '00', 257)
  if (type === '3' || type === '4') {
    header.write(octal(1, 7), 329)
    header.write(octal(3, 7), 337)
  }
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)}\0 `, 148)
  return [header, data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK)]
}

const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')

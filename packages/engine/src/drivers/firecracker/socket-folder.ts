import { chmod, chown, mkdir } from 'node:fs/promises'

/** Where Firecracker makes its sockets. */
export const makeSocketFolder = async (path: string, owner: number): Promise<void> => {
  await mkdir(path, { mode: 0o700 })
  await chown(path, 0, owner)
  await chmod(path, 0o770)
}

/** From now on they are there to use: nothing can be made or replaced beside them. */
export const closeSocketFolder = (path: string): Promise<void> => chmod(path, 0o710)

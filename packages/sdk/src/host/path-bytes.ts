/**
 * File names are bytes, not text. Inside this folder a path is a *byte string*: one character per byte (latin1). It costs nothing for
 * ASCII names, keeps every other name exact, and becomes a Buffer only where a system call needs one.
 */
export type BytePath = string & { readonly __brand: 'BytePath' }

const NON_ASCII = /[^\0-\x7f]/

/** What `node:fs` takes: the string itself when it is ASCII. */
export const systemPath = (path: BytePath): string | Buffer =>
  NON_ASCII.test(path) ? Buffer.from(path, 'latin1') : path

export const bytePath = (text: string): BytePath =>
  (NON_ASCII.test(text) ? Buffer.from(text).toString('latin1') : text) as BytePath

export const fromBuffer = (buffer: Buffer): BytePath => buffer.toString('latin1') as BytePath

/** For messages: text with U+FFFD for what is not UTF-8. */
export const shownPath = (path: string): string =>
  NON_ASCII.test(path) ? Buffer.from(path, 'latin1').toString() : path

export const joinBytes = (folder: BytePath, name: string): BytePath =>
  (folder === '' ? name : `${folder}/${name}`) as BytePath

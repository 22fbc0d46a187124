/** What a client needs at run time: no schema library behind it, so that the command line starts fast. */
export * from './errors.ts'
export * from './limits.ts'
export * from './lost-field.ts'
export * from './settings.ts'
export * from './wire/batches.ts'
export * from './wire/frames.ts'

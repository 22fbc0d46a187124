const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** `1.5 MB`; decimal units, as disks and downloads are counted. */
export const formatBytes = (bytes: number): string => {
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`
}

/** `45 ms`, `3.2 s`, `2 m 5 s`, `3 h 1 m`, `2 d 4 h`. */
export const formatDuration = (durationMs: number): string => {
  if (durationMs < 1_000) return `${Math.round(durationMs)} ms`
  if (durationMs < 60_000) return `${(durationMs / 1_000).toFixed(1)} s`
  const seconds = Math.round(durationMs / 1_000)
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 1_440) return `${Math.floor(minutes / 60)} h ${minutes % 60} m`
  const hours = Math.round(minutes / 60)
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** `now`, `5 m ago`, `in 2 h`: one unit is enough for an age. */
export const formatAge = (time: string, now = Date.now()): string => {
  const differenceMs = now - Date.parse(time)
  const amount = largestUnit(Math.abs(differenceMs))
  if (amount === null) return 'now'
  return differenceMs > 0 ? `${amount} ago` : `in ${amount}`
}

const largestUnit = (durationMs: number): string | null => {
  if (durationMs < 1_000) return null
  if (durationMs < 60_000) return `${Math.floor(durationMs / 1_000)} s`
  if (durationMs < 3_600_000) return `${Math.floor(durationMs / 60_000)} m`
  if (durationMs < 86_400_000) return `${Math.floor(durationMs / 3_600_000)} h`
  return `${Math.floor(durationMs / 86_400_000)} d`
}

/** `1 file`, `2 files`. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

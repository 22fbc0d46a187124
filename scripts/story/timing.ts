/** Parts the time of something with progress into downloading and everything else. */
export class DownloadClock {
  #downloadMs = 0
  #downloadingSince: number | null = null

  /** Pass as `onProgress`. */
  readonly note = (progress: { readonly step: string }): void => {
    const downloading = /\b(?:download|fetch|reading package lists)/i.test(progress.step)
    if (downloading && this.#downloadingSince === null) this.#downloadingSince = performance.now()
    if (!downloading) this.stop()
  }

  stop(): void {
    if (this.#downloadingSince === null) return
    this.#downloadMs += performance.now() - this.#downloadingSince
    this.#downloadingSince = null
  }

  get downloadMs(): number {
    return this.#downloadMs + (this.#downloadingSince === null ? 0 : performance.now() - this.#downloadingSince)
  }
}

export function seconds(ms: number): string {
  return ms < 100 ? `${(ms / 1000).toFixed(3)} s` : `${(ms / 1000).toFixed(1)} s`
}

import { screenOf } from './table.js'

const WIDTH = 30
const REDRAW_MS = 100

/** A progress bar on standard error, where that is a terminal; else nothing. */
export class ProgressBar {
  private drawnMs = Number.NEGATIVE_INFINITY
  private readonly begunMs = performance.now()

  constructor(
    private readonly total: number,
    private readonly what: string,
    private readonly stream: NodeJS.WriteStream = process.stderr,
  ) {}

  to(done: number): void {
    const nowMs = performance.now()
    if (this.stream.isTTY !== true || (nowMs - this.drawnMs < REDRAW_MS && done < this.total)) return
    this.drawnMs = nowMs
    const share = this.total === 0 ? 1 : done / this.total
    const filled = Math.round(share * WIDTH)
    const leftS = share > 0 ? Math.round(((nowMs - this.begunMs) / share - (nowMs - this.begunMs)) / 1000) : 0
    const text = `${'█'.repeat(filled)}${'░'.repeat(WIDTH - filled)} ${done}/${this.total} ${this.what}, ${leftS} s left`
    this.stream.write(`\r${text.slice(0, screenOf(this.stream).width - 1)}\u001b[K${done >= this.total ? '\n' : ''}`)
  }
}

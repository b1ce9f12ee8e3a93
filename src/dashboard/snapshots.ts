import type { Logger } from 'pino'
import { unknownHealth } from '../health/judge.js'
import { StoreUnavailable, TollgateError } from '../model/errors.js'
import { SECOND } from '../model/time.js'
import { budgetsBody } from './budgets-page.js'
import { callBody } from './call-page.js'
import type { Figures } from './figures.js'
import { linesBody } from './lines-page.js'
import type { Body, Snapshot } from './model.js'
import { nowBody } from './now-page.js'
import type { PageAsked } from './pages.js'
import { rulesBody } from './rules-page.js'

const EVERY_MS = SECOND
/** So many different pages are made anew in a second at most; where more are looked at, each comes less often. */
const MOST_AT_ONCE = 8

type Listener = (data: string) => void

interface Watched {
  readonly asked: PageAsked
  readonly listeners: Set<Listener>
}

/**
 * Snapshots of pages: what a page shows at one time. All viewers of a page share its snapshots, of which there is one a second at most, and none while
 * the page has no viewer. The verdict is shared by all pages. Nothing is kept but the last snapshot of each page that is looked at.
 */
export class Snapshots {
  private readonly watched = new Map<string, Watched>()
  private timer: NodeJS.Timeout | undefined
  private making: Promise<void> | undefined
  private turn = 0

  constructor(
    readonly figures: Figures,
    private readonly log: Logger,
  ) {}

  /** How many different pages are looked at. */
  get pages(): number {
    return this.watched.size
  }

  /** @param url as `askedPage` keeps it */
  of(url: string, asked: PageAsked): Promise<Snapshot> {
    return this.figures.remember(`snapshot ${url}`, EVERY_MS / 2, () => this.make(asked))
  }

  /** Calls a function with each new snapshot of a page, as JSON. @returns what ends it */
  watch(url: string, asked: PageAsked, listener: Listener): () => void {
    const watched = this.watched.get(url) ?? { asked, listeners: new Set() }
    this.watched.set(url, watched)
    watched.listeners.add(listener)
    this.timer ??= setInterval(() => {
      // A round that takes longer than a second is not overtaken by the next one.
      this.making ??= this.tell().finally(() => {
        this.making = undefined
      })
    }, EVERY_MS)
    return () => {
      watched.listeners.delete(listener)
      if (watched.listeners.size === 0) this.watched.delete(url)
      if (this.watched.size === 0) this.stop()
    }
  }

  /** Ends when no snapshot is being made any more. */
  async close(): Promise<void> {
    this.stop()
    this.watched.clear()
    await this.making
  }

  private stop(): void {
    clearInterval(this.timer)
    this.timer = undefined
  }

  private async tell(): Promise<void> {
    const pages = [...this.watched]
    const from = pages.length <= MOST_AT_ONCE ? 0 : this.turn % pages.length
    this.turn = from + MOST_AT_ONCE
    const now = [...pages.slice(from), ...pages.slice(0, from)].slice(0, MOST_AT_ONCE)
    await Promise.all(
      now.map(async ([url, { asked, listeners }]) => {
        try {
          const data = JSON.stringify(await this.of(url, asked))
          for (const listener of listeners) listener(data)
        } catch (error) {
          // Its viewers see by themselves that no figures come.
          this.log.warn({ err: error, url }, 'a page could not be made')
        }
      }),
    )
  }

  private async make(asked: PageAsked): Promise<Snapshot> {
    const { figures } = this
    const health = await figures.health().catch((error: unknown) => {
      if (error instanceof StoreUnavailable || error instanceof TollgateError)
        return unknownHealth(`The server could not read the figures: ${error.message}`, Date.now())
      throw error
    })
    const body = await this.bodyOf(asked, health).catch((error: unknown): Body => {
      if (!(error instanceof TollgateError)) throw error
      return { page: 'failed', title: 'The figures cannot be read', detail: `${error.message}. ${error.todo}` }
    })
    return { atMs: Math.max(health.asOfMs, 0), health, body }
  }

  private bodyOf(asked: PageAsked, health: Snapshot['health']): Promise<Body> {
    const { figures } = this
    switch (asked.page) {
      case 'now':
        return nowBody(figures, health)
      case 'lines':
        return linesBody(figures, asked.query)
      case 'call':
        return callBody(figures, asked.query)
      case 'budgets':
        return budgetsBody(figures, asked.query)
      case 'rules':
        return rulesBody(figures, asked.query)
      default:
        return asked satisfies never
    }
  }
}

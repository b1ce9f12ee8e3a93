import { hydrate } from 'preact'
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { PageModel, Snapshot } from '../model.js'
import { ActionContext, type Question, QuestionDialog, send } from './actions.js'
import { Page } from './app.js'
import { steady } from './order.js'
import { Shell, titleOf } from './shell.js'

/** Without figures for so long the page says that they are old. */
const OLD_MS = 5000
const LOOK_MS = 1000
const PAGES = /^\/(lines|call|budgets|rules)?(\?|#|$)/

function readModel(): PageModel {
  return JSON.parse(document.getElementById('model')?.textContent ?? '') as PageModel
}

/** The snapshots of a page, from the one stream that this page has. @returns whether they come */
function useStream(url: string, take: (snapshot: Snapshot) => void): boolean {
  const [live, setLive] = useState(true)
  useEffect(() => {
    let last = performance.now()
    const stream = new EventSource(`/dashboard/stream?url=${encodeURIComponent(url)}`)
    stream.addEventListener('snapshot', ({ data }) => {
      last = performance.now()
      setLive(true)
      // Checks in a browser wait for it.
      document.documentElement.dataset['live'] = 'yes'
      take(JSON.parse(data as string) as Snapshot)
    })
    const timer = setInterval(() => setLive(performance.now() - last < OLD_MS), LOOK_MS)
    return () => {
      stream.close()
      clearInterval(timer)
    }
  }, [url, take])
  return live
}

function showIcon(state: string): void {
  document.querySelector('link[rel=icon]')?.setAttribute('href', `/assets/icon.svg?${state}`)
}

/** Links of the pages are followed in place; each has its address, and works without this program, too. */
function useLinks(go: (url: string, push: boolean) => void): void {
  useEffect(() => {
    const click = (event: MouseEvent) => {
      const link = event.target instanceof Element ? event.target.closest('a') : null
      const href = link?.getAttribute('href')
      const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
      if (!plain || link === null || href === null || href === undefined || !PAGES.test(href)) return
      event.preventDefault()
      go(href, true)
    }
    const back = () => go(location.pathname + location.search + location.hash, false)
    document.addEventListener('click', click)
    window.addEventListener('popstate', back)
    return () => {
      document.removeEventListener('click', click)
      window.removeEventListener('popstate', back)
    }
  }, [go])
}

function App({ first }: { first: PageModel }) {
  const [model, setModel] = useState(first)
  const [question, setQuestion] = useState<Question | null>(null)
  const [told, setTold] = useState('')
  const within = useRef(false)
  const shown = useRef(first.url)
  const latest = useRef(first)
  latest.current = model

  const take = useCallback((snapshot: Snapshot) => {
    setModel((before) => ({ ...before, ...snapshot, body: within.current ? steady(before.body, snapshot.body) : snapshot.body }))
  }, [])
  const load = useCallback(async (url: string) => {
    shown.current = url
    const next = await send<PageModel>('GET', `/dashboard/model?url=${encodeURIComponent(url)}`)
    if (shown.current === url) setModel(next)
  }, [])
  const go = useCallback(
    (href: string, push: boolean) => {
      const [url = '/', hash] = href.split('#')
      if (push && href !== location.pathname + location.search + location.hash) history.pushState(null, '', href)
      const samePage = url.split('?')[0] === latest.current.url.split('?')[0]
      load(url).then(
        () => {
          const target = hash === undefined ? null : document.getElementById(hash)
          if (target !== null) target.scrollIntoView()
          else if (!samePage) {
            scrollTo(0, 0)
            document.getElementById('main')?.setAttribute('tabindex', '-1')
            document.getElementById('main')?.focus({ preventScroll: true })
          }
        },
        // The server sends the page, or says why not.
        () => location.assign(href),
      )
    },
    [load],
  )
  useLinks(go)
  const live = useStream(model.url, take)
  useEffect(() => {
    document.title = titleOf(live ? model : { ...model, health: { ...model.health, state: 'unknown' } })
    showIcon(live ? model.health.state : 'unknown')
  }, [model, live])
  const actions = useMemo(
    () => ({
      mayChange: model.mayChange && live,
      ask: setQuestion,
      done: (text: string) => {
        setQuestion(null)
        setTold(text)
        load(shown.current).catch(() => {})
      },
    }),
    [model.mayChange, live, load],
  )
  const hold = (on: boolean) => () => {
    within.current = on
  }
  return (
    <ActionContext.Provider value={actions}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: it acts on nothing, rows keep their order while one reads */}
      <div onMouseEnter={hold(true)} onMouseLeave={hold(false)} onFocusIn={hold(true)} onFocusOut={hold(false)}>
        <Shell model={model} live={live} told={told}>
          <Page model={model} />
        </Shell>
      </div>
      {question !== null && <QuestionDialog question={question} close={() => setQuestion(null)} done={actions.done} />}
    </ActionContext.Provider>
  )
}

const model = readModel()
const place = document.getElementById('app')
if (place !== null && model.body.page !== 'login') hydrate(<App first={model} />, place)

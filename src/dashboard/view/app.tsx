import type { PageModel } from '../model.js'
import { BudgetsPage } from './budgets.js'
import { CallPage } from './call.js'
import { LinesPage } from './lines.js'
import { NowPage } from './now.js'
import { RulesPage } from './rules.js'
import { Shell } from './shell.js'

function LoginPage({ failed, next }: { failed: boolean; next: string }) {
  return (
    <main class="wrap login" id="main">
      <section class="card">
        <header>
          <h1>Sign in to Tollgate</h1>
        </header>
        <form method="post" action="/login" class="body">
          <input type="hidden" name="next" value={next} />
          <label>
            Key
            <input type="password" name="key" autoComplete="current-password" required aria-describedby="hint" />
          </label>
          <label>
            Your name, for the audit
            <input name="by" autoComplete="username" maxLength={64} placeholder="dashboard" />
          </label>
          <p id="hint" class="s">
            One of the server’s <code>viewerKeys</code> (may look) or <code>adminKeys</code> (may change). Producers’ keys see no pages.
          </p>
          <p class="fault" role="alert">
            {failed ? 'This key may see no pages.' : ''}
          </p>
          <button type="submit" class="btn main">
            Sign in
          </button>
        </form>
      </section>
    </main>
  )
}

export function Page({ model }: { model: PageModel }) {
  const { body, atMs: nowMs, url, health } = model
  switch (body.page) {
    case 'now':
      return <NowPage body={body} health={health} nowMs={nowMs} />
    case 'lines':
      return <LinesPage body={body} nowMs={nowMs} url={url} />
    case 'call':
      return <CallPage body={body} nowMs={nowMs} />
    case 'budgets':
      return <BudgetsPage body={body} nowMs={nowMs} url={url} />
    case 'rules':
      return <RulesPage body={body} nowMs={nowMs} url={url} />
    case 'login':
      return <LoginPage failed={body.failed} next={body.next} />
    case 'failed':
      return (
        <main class="wrap" id="main">
          <section class="card">
            <header>
              <h1>{body.title}</h1>
            </header>
            <div class="empty">{body.detail}</div>
          </section>
        </main>
      )
    default:
      return body satisfies never
  }
}

/** A page as the server sends it. */
export function StillPage({ model }: { model: PageModel }) {
  return (
    <Shell model={model} live={true} told="">
      <Page model={model} />
    </Shell>
  )
}

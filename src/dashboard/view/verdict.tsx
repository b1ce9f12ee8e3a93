import type { Health } from '../../health/health.js'
import { since } from './format.js'
import { Sign } from './parts.js'
import { causeLink, WORDS } from './shell.js'

/** The full verdict: state and since, one sentence, whom it hurts, why, and the one thing to do. */
export function Verdict({ health, nowMs }: { health: Health; nowMs: number }) {
  const cause = health.state === 'flowing' ? null : causeLink(health)
  const { text, command } = health.next
  return (
    <section class={`verdict ${health.state}`} aria-label="Verdict">
      <div class="wrap">
        <span class="state">
          <Sign state={health.state} />
          {WORDS[health.state]}
        </span>{' '}
        <span class="soft">{since(health.sinceMs, nowMs)}</span>
        <h1>{health.sentence}</h1>
        <dl class="facts">
          <div>
            <dt>Whom it hurts</dt>
            <dd>{health.whom === '' ? 'Nobody.' : health.whom}</dd>
          </div>
          <div>
            <dt>Why</dt>
            <dd>
              {health.why} {cause !== null && <a href={cause.href}>{cause.text}</a>}
            </dd>
          </div>
          <div>
            <dt>Do next</dt>
            <dd>
              {text}
              {command !== '' && (
                <>
                  <br />
                  <code>{command}</code>
                </>
              )}
              <NextAction health={health} />
            </dd>
          </div>
        </dl>
      </div>
    </section>
  )
}

/** The one action, as a link to its form, filled in: it never acts by one click. */
function NextAction({ health: { reason, of } }: { health: Health }) {
  const to = (href: string, text: string) => (
    <div>
      <a class="btn main" href={href}>
        {text}
      </a>
    </div>
  )
  if (reason === 'PAUSED') return to('/rules#pauses', 'Look at the pauses…')
  if (reason === 'FLOOD' && of.org !== null)
    return to(`/rules?${new URLSearchParams({ kind: 'org', name: of.org, allow: '0.5×' })}#grant`, `Halve ${of.org} for 1 h…`)
  if (reason === 'BUDGET' && of.rule !== null)
    return to(`/rules?${new URLSearchParams({ kind: 'rule', name: of.rule, allow: '1.5×' })}#grant`, `Raise ${of.rule}…`)
  if ((reason === 'RATE' || reason === 'CONCURRENCY') && of.rule !== null) return to(`/rules?edit=${encodeURIComponent(of.rule)}`, `Open ${of.rule}…`)
  if ((reason === 'OVERSIZED_HEAD' || reason === 'CALL_FAILS') && of.call !== null) return to(`/call?id=${encodeURIComponent(of.call)}`, 'Open the call…')
  if (reason === 'UPSTREAM') return to('/#agents', 'Look at the agent…')
  return null
}

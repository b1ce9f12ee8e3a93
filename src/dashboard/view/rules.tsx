import type { Override } from '../../policy/override.js'
import type { RuleRow, RulesBody } from '../model.js'
import { Ask, send, useActions } from './actions.js'
import { Editor } from './editor.js'
import { clock, duration, limitName, linkWith, percent, valueName, whole } from './format.js'
import { CapacityForm, GrantForm, PauseForm, ResetForm } from './forms.js'
import { Bar, Card, Empty, fullness, Pager, Sign } from './parts.js'

const WITHOUT_ROOM: Record<string, string> = {
  queue: 'waits in line',
  hard: 'is refused',
  retry_after: 'is refused, with the time to come back',
  graceful: 'runs degraded, else waits',
  throttle: 'is slowed down',
}

export function scopeText(scope: string | readonly string[]): string {
  const scopes = [scope].flat()
  return scopes[0] === 'global' ? 'all calls together' : `by ${scopes.join(' and ')}`
}

function LimitTexts({ limits }: { limits: RuleRow['spec']['limits'] }) {
  return (
    <>
      {limits.map((limit, n) => {
        const unit = (['requests', 'tokens', 'inputTokens', 'outputTokens', 'usd', 'points', 'concurrency'] as const).find((one) => limit[one] !== undefined)
        const value = unit === undefined ? 0 : (limit[unit] ?? 0)
        const name = unit === 'concurrency' ? 'running' : `${unit}${limit.per === undefined ? '' : `/${limit.per}`}`
        const extras = [
          limit.burst === undefined ? '' : `burst ${whole(limit.burst)}`,
          limit.algorithm === undefined || limit.algorithm === 'token_bucket' ? '' : limit.algorithm.replaceAll('_', ' '),
        ].filter((one) => one !== '')
        return (
          <span key={n} class="block">
            {value.toLocaleString('en-US')} {limitName(name)}
            {extras.length > 0 && <small> {extras.join(', ')}</small>}
          </span>
        )
      })}
    </>
  )
}

function Row({ row, url, open }: { row: RuleRow; url: string; open: boolean }) {
  const { spec, tightest, waiting } = row
  return (
    <tr>
      <td class="lead">
        <b>{spec.name}</b>
        <small class="block">
          {scopeText(spec.scope)}
          {spec.enabled === false && ', disabled'}
        </small>
      </td>
      <td class="wide">
        <LimitTexts limits={spec.limits} />
        {spec.degraded !== undefined && (
          <small class="block">
            degraded: <LimitTexts limits={spec.degraded} />
          </small>
        )}
      </td>
      <td data-l="without room">{WITHOUT_ROOM[spec.strategy ?? 'queue'] ?? spec.strategy}</td>
      <td class="wide tight">
        {tightest === null ? (
          <span class="soft">nothing is counted yet</span>
        ) : (
          <>
            <span class="nw">
              {valueName(tightest.scopeValue)}, {limitName(tightest.limit)} {percent(fullness(tightest))}
              {waiting > 0 && `, ${whole(waiting)} wait`}
            </span>
            <Bar used={tightest.used} claimed={tightest.claimed} of={tightest.capacity} />
          </>
        )}
      </td>
      <td class="act end">
        <a class="btn quiet" href={linkWith(url, { edit: open ? undefined : spec.name })} aria-label={open ? `Close ${spec.name}` : `Edit ${spec.name}`}>
          {open ? 'Close' : 'Edit'}
        </a>
      </td>
    </tr>
  )
}

function RuleTable({ body, url }: { body: RulesBody; url: string }) {
  const { mayChange } = useActions()
  return (
    <Card
      level={1}
      title="Rules"
      note={`${whole(body.rules.length)} in force`}
      right={
        <a class={mayChange ? 'btn' : 'btn off'} href={linkWith(url, { edit: '' })}>
          Add a rule
        </a>
      }
    >
      {body.edit === '' && <Editor name="" yaml={'name: new-rule\nscope: agent\nlimits:\n  - { requests: 60, per: minute }\n'} url={url} />}
      {body.rules.length === 0 ? (
        <Empty>
          No rule is in force: nothing is limited. Add one here, or apply a rules file: <code>tollgate rules apply tollgate.yaml</code>
        </Empty>
      ) : (
        <table class="t rules">
          <caption class="vh">Rules in force</caption>
          <thead>
            <tr>
              <th>Rule</th>
              <th>Limits</th>
              <th>A call without room</th>
              <th>Tightest now</th>
              <th>
                <span class="vh">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {body.rules.map((row) => [
              <Row key={row.spec.name} row={row} url={url} open={body.edit === row.spec.name} />,
              body.edit === row.spec.name ? (
                <tr key={`${row.spec.name} editor`} class="inner">
                  <td colSpan={5}>
                    <Editor name={row.spec.name} yaml={row.yaml} url={url} />
                  </td>
                </tr>
              ) : null,
            ])}
          </tbody>
        </table>
      )}
    </Card>
  )
}

function allowText(allow: Override['allow']): string {
  if (allow === 'unlimited') return 'unlimited'
  return 'times' in allow ? `${allow.times}×` : 'other limits'
}

function subject(of: Readonly<Record<string, string | undefined>>): string {
  const [kind = '', name = ''] = Object.entries(of).find(([, value]) => value !== undefined) ?? []
  return `${kind} ${name}`
}

function Overrides({ body, nowMs }: { body: RulesBody; nowMs: number }) {
  return (
    <Card id="grant" title="Overrides" note={`${whole(body.overrides.length)} in force; what is counted is never reset by one`}>
      {body.overrides.length > 0 && (
        <table class="t">
          <caption class="vh">Overrides in force</caption>
          <thead>
            <tr>
              <th>For</th>
              <th>Rules</th>
              <th>Allows</th>
              <th>Reason</th>
              <th>By</th>
              <th>Ends</th>
              <th>
                <span class="vh">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {body.overrides.map((one) => (
              <tr key={one.id}>
                <td class="lead">
                  <b>{subject(one.for)}</b>
                </td>
                <td>{one.everything === true ? 'all' : (one.rules?.join(', ') ?? 'all that count by it')}</td>
                <td>{allowText(one.allow)}</td>
                <td data-l="·">{one.reason}</td>
                <td data-l="by">{one.by}</td>
                <td class="end">
                  {clock(Date.parse(one.until), nowMs)} <small>in {duration(Date.parse(one.until) - nowMs)}</small>
                </td>
                <td class="act">
                  <Ask
                    text="End…"
                    label={`End the override for ${subject(one.for)}`}
                    question={{
                      title: `End the override for ${subject(one.for)}?`,
                      effect: `${subject(one.for)} is limited by the rules again at once, not only in ${duration(Date.parse(one.until) - nowMs)}. ${whole(one.uses)} calls have started under it.`,
                      button: 'End the override',
                      danger: true,
                      run: async () => {
                        await send('DELETE', `/v1/overrides/${encodeURIComponent(one.id)}`)
                        return `The override for ${subject(one.for)} has ended.`
                      },
                    }}
                  />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <GrantForm rules={body.rules.map(({ spec }) => spec.name)} filled={body.filled} />
    </Card>
  )
}

function Pauses({ body, nowMs }: { body: RulesBody; nowMs: number }) {
  return (
    <Card id="pauses" title="Pauses" note={body.pauses.length === 0 ? 'none' : undefined}>
      {body.pauses.length > 0 && (
        <ul class="todo">
          {body.pauses.map((one) => (
            <li key={subject(one.for)}>
              <Sign state="stopped" small />
              <span>
                <b>{subject(one.for)}</b>
                {one.waiting > 0 && `, ${whole(one.waiting)} calls wait`}
              </span>
              <Ask
                text="Resume…"
                label={`Resume ${subject(one.for)}`}
                question={{
                  title: `Resume ${subject(one.for)}?`,
                  effect:
                    one.waiting > 0 ? `${whole(one.waiting)} calls go on, as fast as their limits allow.` : 'No call waits for it now; new ones start again.',
                  button: 'Resume',
                  run: async () => {
                    await send(
                      'DELETE',
                      `/v1/pauses?${new URLSearchParams(Object.entries(one.for).filter((entry): entry is [string, string] => entry[1] !== undefined))}`,
                    )
                    return `${subject(one.for)} was resumed.`
                  },
                }}
              />
              <small>
                since {clock(Date.parse(one.since), nowMs)}, for {duration(nowMs - Date.parse(one.since))}, by {one.by}
                {one.reason !== undefined && `: “${one.reason}”`}
              </small>
            </li>
          ))}
        </ul>
      )}
      <PauseForm filled={body.filled} />
    </Card>
  )
}

/** What an entry of the audit changed, short. */
function changeText(value: unknown): string {
  if (value === null || value === undefined) return 'none'
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return text.length > 160 ? `${text.slice(0, 159)}…` : text
}

function Audit({ body, nowMs, url }: { body: RulesBody; nowMs: number; url: string }) {
  const { audit, auditBy, auditLimit } = body
  return (
    <Card
      id="audit"
      title="Audit"
      note="every change, the newest first"
      right={
        <form class="find" action="/rules" role="search">
          <input type="search" name="by" value={auditBy} placeholder="By whom" aria-label="Changes by one actor" />
        </form>
      }
    >
      {audit.length === 0 ? (
        <Empty>{auditBy === '' ? 'Nothing was changed yet.' : `Nothing was changed by ${auditBy}.`}</Empty>
      ) : (
        <table class="t audit">
          <caption class="vh">Changes</caption>
          <thead>
            <tr>
              <th>At</th>
              <th>By</th>
              <th>What</th>
              <th>Of</th>
              <th>Before → after</th>
            </tr>
          </thead>
          <tbody>
            {audit.map((entry) => (
              <tr key={entry.id}>
                <td class="nw end">{clock(Date.parse(entry.at), nowMs)}</td>
                <td>{entry.by}</td>
                <td class="lead">
                  <code>{entry.what}</code>
                </td>
                <td data-l="·">{entry.subject}</td>
                <td class="wide m">
                  {changeText(entry.before)} → {changeText(entry.after)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {audit.length >= auditLimit && (
        <Pager text={`${whole(audit.length)} shown`} links={[{ text: 'Older', href: `${linkWith(url, { audit: String(auditLimit * 2) })}#audit` }]} />
      )}
    </Card>
  )
}

export function RulesPage({ body, nowMs, url }: { body: RulesBody; nowMs: number; url: string }) {
  return (
    <main class="wrap" id="main">
      <RuleTable body={body} url={url} />
      <div class="two">
        <Overrides body={body} nowMs={nowMs} />
        <Pauses body={body} nowMs={nowMs} />
        <Card title="Capacity by hand" note="a limit on an agent’s requests, beside its rules">
          <CapacityForm agents={body.agents} filled={body.filled} />
        </Card>
        <Card title="Reset a meter" note="forgets what is used">
          <ResetForm rules={body.rules.map(({ spec }) => spec.name)} filled={body.filled} />
        </Card>
      </div>
      <Audit body={body} nowMs={nowMs} url={url} />
    </main>
  )
}

import { UNITS } from '../../model/cost.js'
import { fullness, type RuleRow, type RulesBody } from '../model.js'
import { useActions } from './actions.js'
import { Audit } from './audit.js'
import { Editor } from './editor.js'
import { limitText, linkWith, percent, valueName, whole } from './format.js'
import { CapacityForm, ResetForm } from './forms.js'
import { ActionsHead, Bar, Card, Empty } from './parts.js'
import { Overrides, Pauses } from './steering.js'

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
        const unit = UNITS.find((one) => limit[one] !== undefined)
        const value = unit === undefined ? 0 : (limit[unit] ?? 0)
        const name = unit === 'concurrency' ? 'running' : `${unit}${limit.per === undefined ? '' : `/${limit.per}`}`
        const extras = [
          limit.burst === undefined ? '' : `burst ${whole(limit.burst)}`,
          limit.algorithm === undefined || limit.algorithm === 'token_bucket' ? '' : limit.algorithm.replaceAll('_', ' '),
        ].filter((one) => one !== '')
        return (
          <span key={n} class="block">
            {value.toLocaleString('en-US')} {limitText(name)}
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
          <span class="soft">no call waits for it</span>
        ) : (
          <>
            <span class="nw">
              {valueName(tightest.scopeValue)}, {limitText(tightest.limit)} {percent(fullness(tightest))}
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
              <ActionsHead />
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

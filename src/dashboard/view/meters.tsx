import type { RuleGroup, ValueRow } from '../model.js'
import { duration, lineLink, NONE, perSecond, valueName, whole } from './format.js'
import { Bar, Card, Empty, Limits, Spark, sparkLabel } from './parts.js'
import { scopeText } from './rules.js'

function Value({ row, group }: { row: ValueRow; group: RuleGroup }) {
  const { history, depth, usage, note, value } = row
  const waits = group.shared && depth > 0
  const calm = depth === 0 && usage.every(({ used, claimed, capacity }) => used + claimed < capacity)
  return (
    <tr class={calm ? 'calm' : undefined}>
      <td class="lead">
        {depth > 0 ? <a href={lineLink(`${group.spec.name}/${value}`)}>{valueName(value)}</a> : valueName(value)}
        {note !== null && <small class="block">{note}</small>}
      </td>
      <td class="wide">
        <Limits usage={usage} waitedFor={waits ? row.limit : null} />
      </td>
      <td class="n waits" data-l="wait">
        {history === null || history.waitP50Ms === null ? NONE : `${duration(history.waitP50Ms)} / ${duration(history.waitP95Ms)}`}
      </td>
      <td class="n rate">{history === null ? NONE : `${perSecond(history.startingPerSecond)} /s`}</td>
      <td class="n depth end">
        {history !== null && <Spark values={history.depths} tone={waits ? 'warn' : 'calm'} label={sparkLabel('In line, last hour', history.depths)} />}
        {depth > 0 ? <b class={waits ? 'warn' : undefined}>{whole(depth)}</b> : <span>0</span>}
      </td>
    </tr>
  )
}

const WITHOUT_ROOM: Record<string, string> = {
  hard: 'refuses',
  retry_after: 'refuses with a time',
  graceful: 'degrades, then waits',
  throttle: 'slows down',
  queue: 'waits in line',
}

export function RulesCard({ groups }: { groups: readonly RuleGroup[] }) {
  return (
    <Card
      title="Rules"
      note={
        <span class="key">
          <span>
            <Bar used={1} of={1} small /> used
          </span>
          <span>
            <Bar used={0} claimed={1} of={1} small /> claimed by woken calls
          </span>
          <span>
            <Bar used={0} of={1} small /> free
          </span>
          <span class="warn">
            <Bar used={1} of={1} tone="warn" small /> all wait for it
          </span>
        </span>
      }
      right={<a href="/rules">Edit</a>}
    >
      {groups.length === 0 ? (
        <Empty>
          No rule is in force: nothing is limited. <a href="/rules?edit=">Add a rule</a>
        </Empty>
      ) : (
        <table class="t meters">
          <caption class="vh">Limits and their usage, by rule and scope value</caption>
          <thead>
            <tr>
              <th>Counted for</th>
              <th>Used + claimed of limit</th>
              <th class="n">Wait p50 / p95</th>
              <th class="n">Starting</th>
              <th class="n">In line, last hour</th>
            </tr>
          </thead>
          {groups.map((group) => (
            <tbody key={group.spec.name}>
              <tr class="group">
                <th colSpan={5} scope="rowgroup">
                  <b>{group.spec.name}</b>{' '}
                  <small>
                    {scopeText(group.spec.scope)} · {WITHOUT_ROOM[group.spec.strategy ?? 'queue'] ?? group.spec.strategy}
                    {group.moreLines > 0 && ` · ${whole(group.moreLines)} more lines`}
                    {group.values.length === 0 && ' · no call waits for it'}
                  </small>
                </th>
              </tr>
              {group.values.map((row) => (
                <Value key={row.value} row={row} group={group} />
              ))}
            </tbody>
          ))}
        </table>
      )}
    </Card>
  )
}

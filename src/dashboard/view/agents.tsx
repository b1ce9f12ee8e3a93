import type { AgentRow } from '../model.js'
import { Ask, send } from './actions.js'
import { clockTime, duration, percent, perSecond, whole } from './format.js'
import { ActionsHead, Bar, Card, Sign, Spark, sparkLabel } from './parts.js'

function agentState({ state }: AgentRow): { sign: 'flowing' | 'slowed' | 'stopped'; word: string } {
  if (state === null) return { sign: 'flowing', word: 'open' }
  if (state.state === 'blocked') return { sign: 'stopped', word: 'blocked' }
  return state.factor < 1 || state.state !== 'open'
    ? { sign: 'slowed', word: state.state === 'canary' ? 'probing' : 'recovering' }
    : { sign: 'flowing', word: 'open' }
}

function saysOfItself(row: AgentRow): string {
  const said = Object.entries(row.state?.observed ?? {})
  return said
    .map(([unit, of]) => `${of?.remaining === null || of?.remaining === undefined ? '' : `${whole(of.remaining)} of `}${whole(of?.limit ?? 0)} ${unit}`)
    .join(', ')
}

function AgentLine({ row, nowMs }: { row: AgentRow; nowMs: number }) {
  const { sign, word } = agentState(row)
  const tone = sign === 'stopped' ? 'stop' : sign === 'slowed' ? 'warn' : 'calm'
  const { state } = row
  const refused = row.limited429.reduce((sum, count) => sum + count, 0)
  const story =
    state === null
      ? 'has never told anything of its limits'
      : state.blockedMs > 0
        ? `no call until ${clockTime(nowMs + state.blockedMs, nowMs)}, in ${duration(state.blockedMs)}; then a probe`
        : state.cutAt !== null && state.factor < 1
          ? `cut at ${clockTime(new Date(state.cutAt).valueOf(), nowMs)}, and growing back`
          : 'open'
  const name = [state?.agent ?? row.name, state?.endpoint, state?.model].filter((one) => one !== undefined && one !== '*').join(' · ')
  return (
    <tr>
      <td class="lead">
        <b>{name}</b>
        <small class="block">{story}</small>
      </td>
      <td class="end">
        <span class={`is ${tone}`}>
          <Sign state={sign} small /> {word}
        </span>
      </td>
      <td class="cap wide">
        <Bar used={state?.factor ?? 1} of={1} tone={tone} />
        <span>{percent(state?.factor ?? 1)}</span>
      </td>
      <td class="n" data-l="starting">
        {perSecond(row.startingPerSecond)} /s
      </td>
      <td class="n depth" data-l="429s">
        {refused > 0 && <Spark values={row.limited429} tone="warn" label={sparkLabel('429s, last hour', row.limited429)} />}
        <span>{whole(refused)}</span>
      </td>
      <td data-l="says">{saysOfItself(row) || <span class="soft">nothing</span>}</td>
      <td class="act">
        {state !== null && sign !== 'flowing' && (
          <Ask
            text="Lift…"
            label={`Lift the block of ${name}`}
            question={{
              title: `Lift the block of ${name}?`,
              effect: `${name} is called at full capacity at once. If it still refuses, each call gets a 429 and the block comes back.`,
              button: 'Lift the block',
              danger: true,
              run: async () => {
                await send('POST', '/v1/meters/lift', {
                  agent: state.agent,
                  ...(state.endpoint === undefined ? {} : { endpoint: state.endpoint }),
                  ...(state.model === undefined ? {} : { model: state.model }),
                })
                return `The block of ${name} was lifted.`
              },
            }}
          />
        )}
      </td>
    </tr>
  )
}

export function AgentsCard({ agents, nowMs }: { agents: readonly AgentRow[]; nowMs: number }) {
  return (
    <Card id="agents" title="Agents" note="what their answers have taught the fleet">
      <table class="t">
        <caption class="vh">Agents</caption>
        <thead>
          <tr>
            <th>Agent</th>
            <th>State</th>
            <th>Capacity</th>
            <th class="n">Starting</th>
            <th class="n">429s, last hour</th>
            <th>It says of itself</th>
            <ActionsHead />
          </tr>
        </thead>
        <tbody>
          {agents.map((row) => (
            <AgentLine key={`${row.name} ${row.state?.endpoint} ${row.state?.model}`} row={row} nowMs={nowMs} />
          ))}
        </tbody>
      </table>
    </Card>
  )
}

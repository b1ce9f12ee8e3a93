import { WAYS_TO_REFUSE } from '../world/server.js'
import { type Scenario, scenario } from './scenario.js'

const ACCOUNT = { name: 'account', scope: 'agent', limits: [{ requests: 20, per: 'second', burst: 1 }] }
const SLOTS = { name: 'slots', scope: 'agent', limits: [{ concurrency: 2, lease: '2s' }] }

export const SCENARIOS: readonly Scenario[] = [
  scenario('app dies before its jobs', 'An app dies between the answer of the front door and its 50 jobs; the calls of another app must not wait for them.', {
    rules: [ACCOUNT],
    apps: [[{ atMs: 700, calls: [{ count: 60 }] }], [{ atMs: 500, calls: [{ count: 50 }] }]],
    faults: [{ kind: 'death', process: 'app2', trigger: { process: 'app2', command: 'enqueue', nth: 1 } }],
  }),
  scenario('jobs are removed', 'Twelve jobs are removed in BullMQ while their calls stand in line; those behind them must not wait for them.', {
    rules: [{ ...ACCOUNT, limits: [{ requests: 2, per: 'second', burst: 1 }] }],
    apps: [[{ atMs: 500, calls: [{ count: 20 }] }]],
    faults: Array.from({ length: 12 }, (_, at) => ({ kind: 'removed job' as const, trigger: { atMs: 800 + 10 * at } })),
  }),
  scenario(
    'stale worker ends',
    'A worker stands still beyond its lease, its calls run anew elsewhere; then it ends them. It must not give back slots that are not its own.',
    {
      rules: [SLOTS],
      workers: [{ leaseMs: 1000 }, { leaseMs: 1000 }],
      apps: [
        [
          { atMs: 500, calls: [{ count: 2, ms: 9000 }] },
          { atMs: 8500, calls: [{ count: 2, ms: 9000 }] },
        ],
      ],
      faults: [{ kind: 'stop', process: 'worker1', trigger: { atMs: 1300 }, forMs: 7200 }],
    },
  ),
  scenario(
    'stale worker gets its own jobs',
    'A worker stands still beyond its lease, and is handed the jobs whose handlers still run in it. When these end, the locks of the second attempts are renewed still: there is no third.',
    {
      rules: [ACCOUNT],
      workers: [
        { leaseMs: 1000, concurrency: 4 },
        { leaseMs: 1000, concurrency: 1 },
      ],
      apps: [[{ atMs: 500, calls: [{ count: 3, ms: 9000 }] }]],
      faults: [{ kind: 'stop', process: 'worker1', trigger: { atMs: 1300 }, forMs: 4000 }],
    },
  ),
  scenario('Redis stands still for longer than a lease', 'Running calls keep their slots when Redis goes on.', {
    rules: [SLOTS],
    workers: [{ leaseMs: 30_000 }],
    apps: [[{ atMs: 500, calls: [{ count: 8, ms: 9000 }] }]],
    faults: [{ kind: 'redis away', by: 1, trigger: { atMs: 1500 }, forMs: 4000 }],
  }),
  ...WAYS_TO_REFUSE.map((way, by) =>
    scenario(`Redis refuses writes as calls end (${way})`, 'The ends are sent again until Redis takes them: no call runs twice.', {
      rules: [
        {
          ...ACCOUNT,
          limits: [
            { requests: 80, per: 'second', burst: 10 },
            { concurrency: 10, lease: '30s' },
          ],
        },
      ],
      workers: [{ leaseMs: 4000 }, { leaseMs: 4000 }],
      apps: [[{ atMs: 500, calls: [{ count: 200, ms: 40 }] }]],
      faults: [{ kind: 'redis refuses writes', trigger: { atMs: 1500 }, forMs: 3000, by }],
    }),
  ),
  scenario(
    'late settlements',
    'Calls with an estimate above the truth are settled after the bucket is full again: what the clock gave back is not given back twice.',
    {
      features: ['late settlements'],
      rules: [{ name: 'tokens', scope: 'agent', limits: [{ tokens: 1000, per: 'second', burst: 1000 }] }],
      apps: [
        [
          { atMs: 500, calls: [{ count: 1, tokens: 1000, ms: 1500, usedPart: 0 }] },
          { atMs: 1800, calls: [{ count: 12, tokens: 500, ms: 30 }] },
        ],
      ],
    },
  ),
  scenario('a sliding log ends while room is claimed', 'The charges of a log leave its window while woken calls have claims: the room is there at once.', {
    rules: [{ name: 'log', scope: 'agent', limits: [{ tokens: 4800, per: '2s', algorithm: 'sliding_log' }] }],
    apps: [
      [500, 1000].map((atMs) => ({
        atMs,
        calls: Array.from({ length: 50 }, (_, at) => ({ count: 1, tokens: [20, 200, 60, 20, 400, 120, 20][at % 7] as number })),
      })),
    ],
  }),
  scenario(
    'one call is always refused',
    'An agent refuses one call always, with Retry-After 0. The calls behind it go on, and the agent is not asked in a hot loop.',
    {
      rules: [ACCOUNT],
      apps: [[{ atMs: 500, calls: [{ count: 60 }] }]],
      faults: [{ kind: 'agent refuses always', by: 0, trigger: { atMs: 1500 } }],
    },
  ),
  scenario(
    'several calls are always refused',
    'An agent refuses three calls always, each with a Retry-After of a second. The others wait for each once, and the three end with the words of their agent.',
    {
      rules: [ACCOUNT],
      apps: [[{ atMs: 500, calls: [{ count: 300 }] }]],
      faults: [1500, 1600, 4000].map((atMs) => ({ kind: 'agent refuses always', by: 1000, trigger: { atMs } }) as const),
    },
  ),
  scenario(
    'an agent refuses everything for a while',
    'An agent refuses every call for six seconds, with Retry-After 0. It is asked ever more rarely, and takes calls again at once.',
    {
      rules: [ACCOUNT],
      apps: [[{ atMs: 500, calls: [{ count: 60 }] }]],
      faults: [{ kind: 'agent refuses for a while', agent: 'a', by: 0, trigger: { atMs: 1500 }, forMs: 6000 }],
    },
  ),
  scenario('Redis comes back empty', 'Redis restarts without its data, and a worker opens: the limits hold, or calls are refused.', {
    rules: [ACCOUNT],
    apps: [[{ atMs: 500, calls: [{ count: 20 }] }], [{ atMs: 4000, calls: [{ count: 60 }] }]],
    faults: [
      { kind: 'failover', by: Number.POSITIVE_INFINITY, trigger: { atMs: 3000 }, forMs: 200 },
      { kind: 'death', process: 'worker1', trigger: { atMs: 3300 } },
      { kind: 'death', process: 'worker2', trigger: { atMs: 3300 } },
    ],
  }),
  scenario(
    'two limits bind one after the other',
    'The told ETA is the real start where a call waits for a limit of its org, and then for that of the account.',
    {
      rules: [
        { ...ACCOUNT, limits: [{ requests: 10, per: 'second', burst: 5 }] },
        { name: 'org', scope: 'org', limits: [{ requests: 1, per: 'second', burst: 1 }] },
        { name: 'user', scope: 'user', limits: [{ requests: 1, per: 'second', burst: 1 }] },
      ],
      apps: [
        [
          {
            atMs: 500,
            calls: ['x', 'y', 'z'].flatMap((org) => ['u1', 'u2', 'u3', 'u4'].map((user) => ({ count: 2, org, user }))),
          },
        ],
      ],
    },
  ),
  scenario('rule changes after the promise', 'A rule no longer covers calls that were promised room under it: the room comes back.', {
    rules: [ACCOUNT, { name: 'tenant', scope: 'agent', match: { orgs: ['x', 'y'] }, limits: [{ requests: 5, per: 'second', burst: 5 }] }],
    apps: [
      [
        { atMs: 500, calls: [{ count: 30, org: 'y' }] },
        { atMs: 2500, calls: [{ count: 20, org: 'x' }] },
      ],
    ],
    faults: [
      { kind: 'rule change', trigger: { atMs: 900 } },
      { kind: 'rule change', trigger: { atMs: 1400 } },
      { kind: 'rule change', trigger: { atMs: 2100 } },
    ],
  }),
  scenario('clock of Redis is set back', "Redis' clock is set back by 30 s: calls start again within a stated time.", {
    rules: [ACCOUNT],
    apps: [
      [
        { atMs: 500, calls: [{ count: 10 }] },
        { atMs: 3000, calls: [{ count: 10 }] },
      ],
    ],
    faults: [{ kind: 'redis clock', by: -30_000, trigger: { atMs: 2000 } }],
  }),
]

export function scenarioNamed(name: string): Scenario {
  const found = SCENARIOS.find((one) => one.name === name)
  if (found === undefined) throw new Error(`there is no scenario ${name}; there are: ${SCENARIOS.map((one) => one.name).join(', ')}`)
  return found
}

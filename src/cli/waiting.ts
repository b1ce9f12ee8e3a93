import type { Command } from 'commander'
import type { CallsQuery, LinesQuery } from '../gate/waiting.js'
import { type Common, common, withTollgate } from './common.js'

type Paged<Query> = Common & Omit<Query, 'limit'> & { limit?: string }

/** What a command was asked for, without the flags that say where; `--queue` is the queue that is worked with, not one of the filters. */
function queryOf<Query extends { limit?: number | undefined }>({
  redis: _redis,
  namespace: _namespace,
  prefix: _prefix,
  queue: _queue,
  json: _json,
  limit,
  ...query
}: Paged<Query>) {
  return { ...query, limit: limit === undefined ? undefined : Number(limit) }
}

function paged(command: Command): Command {
  return common(command)
    .option('--rule <name>', 'in the lines of this rule')
    .option('--cursor <cursor>', 'where the page before ended')
    .option('--limit <number>', 'how many at most')
}

export function waitingCommands(program: Command): void {
  const calls = program.command('calls').description('calls that have not ended')
  paged(calls.command('list').description('the calls that have not ended, and what each waits for, page by page'))
    .option('--state <state>', 'waiting, woken, queued or running (default: all but running)')
    .option('--waits-for <reason>', 'a reason to wait: RATE, NO_WORKER, …')
    .option('--agent <name>', 'of this agent')
    .option('--endpoint <path>', 'of this endpoint')
    .option('--model <name>', 'of this model')
    .option('--user <name>', 'of this user')
    .option('--team <name>', 'of this team')
    .option('--org <name>', 'of this org')
    .option('--ip <address>', 'of this address')
    .action((options: Paged<CallsQuery>) =>
      withTollgate(options, async (tollgate) => ({ prints: await tollgate.calls(queryOf<CallsQuery>(options) as CallsQuery) })),
    )
  paged(program.command('lines').description('the lines in which calls wait: how many, since when, and for what')).action((options: Paged<LinesQuery>) =>
    withTollgate(options, async (tollgate) => ({ prints: await tollgate.lines(queryOf<LinesQuery>(options) as LinesQuery) })),
  )
}

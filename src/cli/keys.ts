import type { Command } from 'commander'
import { type ByFlag, type Common, changing, common, withTollgate } from './common.js'

interface CreateFlags extends Common, ByFlag {
  org?: string
  team?: string
  user?: string
  agents?: string
  until?: string
}

export function keysCommands(program: Command): void {
  const keys = program.command('keys').description('API keys of clients that call agents through the server')
  changing(keys.command('create').description('issue a key; it is shown this once'))
    .option('--org <name>', 'whose calls are made with it')
    .option('--team <name>', 'whose calls are made with it')
    .option('--user <name>', 'whose calls are made with it')
    .option('--agents <names>', 'the agents that it may call, with commas in between (default: all)')
    .option('--until <time>', 'when it ends: ISO 8601 (default: never)')
    .action(({ org, team, user, agents, until, by, ...options }: CreateFlags) =>
      withTollgate(options, async (tollgate) => ({ prints: await tollgate.keys.create({ org, team, user, agents: agents?.split(','), until, by }) })),
    )
  changing(keys.command('revoke <id>').description('end a key now, by its id')).action((id: string, options: Common & ByFlag) =>
    withTollgate(options, async (tollgate) => {
      const revoked = await tollgate.keys.revoke(id, options)
      return { prints: { id, revoked }, ok: revoked }
    }),
  )
  common(keys.command('list').description('the keys that were issued')).action((options: Common) =>
    withTollgate(options, async (tollgate) => ({ prints: await tollgate.keys.list() })),
  )
}

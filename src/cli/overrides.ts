import type { Command } from 'commander'
import type { Change } from '../administration/audit.js'
import type { GrantSpec } from '../administration/grant.js'
import type { Pause } from '../policy/pause.js'
import { type ByFlag, type Common, changing, common, parseJson, withTollgate } from './common.js'

function overrideCommands(program: Command): void {
  const override = program.command('override').description('exceptions from rules, for some time')
  changing(override.command('grant <override>').description('grant an override, given as JSON')).action((text: string, options: Common & ByFlag) => {
    const given = parseJson(text, 'override', 'REQUEST_INVALID') as GrantSpec
    return withTollgate(options, async (tollgate) => {
      const id = await tollgate.overrides.grant(options.by === undefined ? given : { ...given, by: options.by })
      return { prints: { id, until: tollgate.overrides.list().find((one) => one.id === id)?.until } }
    })
  })
  changing(override.command('revoke <id>').description('end an override now')).action((id: string, options: Common & ByFlag) =>
    withTollgate(options, async (tollgate) => {
      const revoked = await tollgate.overrides.revoke(id, options)
      return { prints: { id, revoked }, ok: revoked }
    }),
  )
  common(override.command('list').description('the overrides that hold')).action((options: Common) =>
    withTollgate(options, async (tollgate) => ({ prints: tollgate.overrides.list() })),
  )
}

export function administrationCommands(program: Command): void {
  overrideCommands(program)
  common(program.command('audit').description('what was changed, by whom and when, the newest first'))
    .option('--since <time>', 'not before: ISO 8601')
    .option('--until <time>', 'not after')
    .option('--by <who>', 'by whom')
    .option('--what <change>', 'one kind of change, such as override.granted')
    .option('--limit <entries>', 'how many at most (default: 100)')
    .action((options: Common & ByFlag & { since?: string; until?: string; what?: Change; limit?: string }) =>
      withTollgate(options, async (tollgate) => {
        const { since, until, by, what, limit } = options
        return { prints: await tollgate.overrides.audit({ since, until, by, what, limit: limit === undefined ? undefined : Number(limit) }) }
      }),
    )
  changing(program.command('pause <kind> <value>').description('keep the calls of an agent, user, team, org or rule where they are'))
    .option('--reason <text>', 'why')
    .action((kind: string, value: string, options: Common & ByFlag & { reason?: string }) =>
      withTollgate(options, async (tollgate) => {
        const paused = await tollgate.pause({ [kind]: value } as Pause['for'], { by: options.by, reason: options.reason })
        return { prints: { for: { [kind]: value }, paused }, ok: paused }
      }),
    )
  changing(program.command('resume <kind> <value>').description('resume paused calls')).action((kind: string, value: string, options: Common & ByFlag) =>
    withTollgate(options, async (tollgate) => {
      const resumed = await tollgate.resume({ [kind]: value } as Pause['for'], { by: options.by })
      return { prints: { for: { [kind]: value }, resumed }, ok: resumed }
    }),
  )
}

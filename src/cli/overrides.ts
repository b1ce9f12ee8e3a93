import type { Command } from 'commander'
import type { Change } from '../administration/audit.js'
import type { GrantSpec } from '../administration/grant.js'
import type { Pause } from '../policy/pause.js'
import { type ByFlag, type Common, changing, common, EXIT, parseJson, print, withTollgate } from './common.js'

interface AuditFlags {
  since?: string
  until?: string
  by?: string
  what?: Change
  limit?: string
}

/** Prints the outcome of a change. @param changed false where there was nothing to change: the command fails then */
function printChange(value: object, changed: boolean, json: boolean | undefined): number {
  print(value, json)
  return changed ? EXIT.ok : EXIT.failed
}

/** `tollgate override …` */
function overrideCommands(program: Command): void {
  const override = program.command('override').description('exceptions from rules, for some time')
  changing(override.command('grant <override>').description('grant an override, given as JSON')).action((text: string, options: Common & ByFlag) => {
    const given = parseJson(text, 'override', 'REQUEST_INVALID') as GrantSpec
    return withTollgate(options, async (tollgate) => {
      const id = await tollgate.overrides.grant(options.by === undefined ? given : { ...given, by: options.by })
      print({ id, until: tollgate.overrides.list().find((one) => one.id === id)?.until }, options.json)
      return EXIT.ok
    })
  })
  changing(override.command('revoke <id>').description('end an override now')).action((id: string, options: Common & ByFlag) =>
    withTollgate(options, async (tollgate) => {
      const revoked = await tollgate.overrides.revoke(id, options)
      return printChange({ id, revoked }, revoked, options.json)
    }),
  )
  common(override.command('list').description('the overrides that hold')).action((options: Common) =>
    withTollgate(options, async (tollgate) => {
      print(tollgate.overrides.list(), options.json)
      return EXIT.ok
    }),
  )
}

/** `tollgate override …`, `audit`, `pause` and `resume`. */
export function administrationCommands(program: Command): void {
  overrideCommands(program)
  common(program.command('audit').description('what was changed, by whom and when, the newest first'))
    .option('--since <time>', 'not before: ISO 8601')
    .option('--until <time>', 'not after')
    .option('--by <who>', 'by whom')
    .option('--what <change>', 'one kind of change, such as override.granted')
    .option('--limit <entries>', 'how many at most (default: 100)')
    .action((options: Common & AuditFlags) =>
      withTollgate(options, async (tollgate) => {
        const { since, until, by, what, limit } = options
        print(await tollgate.overrides.audit({ since, until, by, what, limit: limit === undefined ? undefined : Number(limit) }), options.json)
        return EXIT.ok
      }),
    )
  changing(program.command('pause <kind> <value>').description('keep the calls of an agent, user, team, org or rule where they are'))
    .option('--reason <text>', 'why')
    .action((kind: string, value: string, options: Common & ByFlag & { reason?: string }) =>
      withTollgate(options, async (tollgate) => {
        const paused = await tollgate.pause({ [kind]: value } as Pause['for'], { by: options.by, reason: options.reason })
        return printChange({ for: { [kind]: value }, paused }, paused, options.json)
      }),
    )
  changing(program.command('resume <kind> <value>').description('let them go on')).action((kind: string, value: string, options: Common & ByFlag) =>
    withTollgate(options, async (tollgate) => {
      const resumed = await tollgate.resume({ [kind]: value } as Pause['for'], { by: options.by })
      return printChange({ for: { [kind]: value }, resumed }, resumed, options.json)
    }),
  )
}

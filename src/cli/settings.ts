import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import type { z } from 'zod'
import { ConfigInvalid } from '../model/errors.js'
import { faultMessage, faultsOf, safeParse, show } from '../validation/faults.js'

export type SettingsSource = Readonly<Record<string, unknown>>

async function readConfigFile(file: string): Promise<SettingsSource> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new ConfigInvalid(`config file ${file} cannot be read (${cause.code ?? String(cause)})`)
  })
  let content: unknown
  try {
    content = parse(text)
  } catch (cause) {
    throw new ConfigInvalid(`config file ${file}: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`)
  }
  if (content === null || typeof content !== 'object' || Array.isArray(content))
    throw new ConfigInvalid(`config file ${file} must hold settings by name (got ${show(content)})`)
  return content as SettingsSource
}

/**
 * The settings of a process: flags before environment before file before defaults.
 * @param variables the environment variable of each setting
 * @param secret settings that no message quotes
 * @throws ConfigInvalid naming the setting, where it came from, its value and bound
 */
export async function readSettings<Schema extends z.ZodType>(
  schema: Schema,
  variables: Readonly<Record<string, string>>,
  flags: SettingsSource,
  environment: NodeJS.ProcessEnv,
  secret: ReadonlySet<string> = new Set(),
): Promise<Readonly<z.output<Schema>>> {
  const { config, ...given } = flags
  const file = config ?? environment['TOLLGATE_CONFIG']
  const fromFile = typeof file === 'string' ? await readConfigFile(file) : {}
  const fromEnvironment = Object.fromEntries(
    Object.entries(variables).flatMap(([name, variable]) => (environment[variable] === undefined ? [] : [[name, environment[variable]]])),
  )
  const fromFlags = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const merged: Record<string, unknown> = { ...fromFile, ...fromEnvironment, ...fromFlags }
  const parsed = safeParse(schema, merged)
  if (parsed.success) return Object.freeze(parsed.data)
  const unknownField = `is not a setting (known: ${Object.keys(variables).join(', ')})`
  const quote = (value: unknown, [name]: readonly PropertyKey[]) => (secret.has(String(name)) ? 'a value that is not shown' : show(value))
  const [fault] = faultsOf(parsed.error, merged, { whole: 'settings', unknownField, show: quote })
  if (fault === undefined) throw new ConfigInvalid('the settings are not valid')
  const name = fault.field.split('.')[0] as string
  const source =
    name in fromFlags
      ? 'flag'
      : name in fromEnvironment
        ? `environment variable ${variables[name]}`
        : name in fromFile
          ? `config file ${String(file)}`
          : 'not given'
  throw new ConfigInvalid(faultMessage(`${fault.field} (${source})`, fault.message, fault.got))
}

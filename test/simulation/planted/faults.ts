import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { FEATURES, type Feature } from '../fleet/spec.js'
import { FAULTS, type FaultKind, ORACLES, type OracleName } from '../oracles/facts.js'

/** The folder of the project, also from the compiled form of this file. */
export const PROJECT = dirname(createRequire(import.meta.url).resolve('tollgate/package.json'))

const PATCHES = join(PROJECT, 'test', 'simulation', 'planted')

/** A fault that is planted into a copy of the project, to see whether the simulation finds it. */
export interface PlantedFault {
  readonly name: string
  /** The path of the patch. */
  readonly patch: string
  /** The files that the patch changes, by their paths in the project. */
  readonly files: readonly string[]
  /** What is wrong. */
  readonly summary: string
  /** The oracles that ought to see it. */
  readonly oracles: readonly OracleName[]
  /** The invariants of the design that it breaks, by their numbers, and how. */
  readonly breaks: string
  /** What a fleet must have for the fault to matter. */
  readonly needs: string
  /** The same as features and kinds of faults: the fleets that have them are searched first. Empty: any fleet. */
  readonly fleets: readonly (FaultKind | Feature)[]
}

/** A paragraph of the head of a patch: from its mark to the next one. */
function paragraph(head: string, mark: string): string {
  const [, text = ''] = new RegExp(`^${mark}: ([^\\n]*(?:\\n {2}[^\\n]*)*)`, 'm').exec(head) ?? []
  return text.replaceAll(/\n */g, ' ').trim()
}

/** @throws where one is none: a misspelled name would never be found */
function namesIn<T extends string>(list: string, all: readonly T[]): T[] {
  return list.split(', ').map((name) => {
    const known = all.find((one) => one === name)
    if (known === undefined) throw new Error(`a planted fault names ${name}, which is none of: ${all.join(', ')}`)
    return known
  })
}

function readFault(file: string): PlantedFault {
  const patch = join(PATCHES, file)
  const text = readFileSync(patch, 'utf8')
  const head = text.slice(0, text.search(/^--- /m))
  const fleets = paragraph(head, 'Fleets')
  const files = [...text.matchAll(/^\+\+\+ b\/(.*)$/gm)].map(([, path = '']) => path)
  return {
    name: file.slice(0, -'.patch'.length),
    patch,
    files,
    summary: paragraph(head, 'Fault'),
    oracles: namesIn(paragraph(head, 'Oracles'), ORACLES),
    breaks: paragraph(head, 'Breaks'),
    needs: paragraph(head, 'Needs'),
    fleets: fleets === 'any' ? [] : namesIn(fleets, [...FEATURES, ...FAULTS]),
  }
}

/** All planted faults, by name. */
export function plantedFaults(): readonly PlantedFault[] {
  return readdirSync(PATCHES)
    .filter((file) => file.endsWith('.patch'))
    .sort()
    .map(readFault)
}

/** @throws where there is none of that name */
export function faultNamed(name: string): PlantedFault {
  const faults = plantedFaults()
  const found = faults.find((fault) => fault.name === name)
  if (found === undefined) throw new Error(`no planted fault is called ${name}; there are ${faults.map((fault) => fault.name).join(', ')}`)
  return found
}

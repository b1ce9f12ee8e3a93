import type { Agent } from './agent.js'
import { FAIR, type Finding } from './explore.js'
import { replay } from './replay.js'
import type { Setting } from './setting.js'

/** The same report by a shorter path: leaves out one action after the other as long as the report stays. */
export async function shrink(setting: Setting, agent: Agent, finding: Finding): Promise<Finding> {
  let { path } = finding
  const stays = async (shorter: readonly string[]) => {
    const { possible, reports } = await replay(setting, agent, shorter)
    return possible && reports.includes(finding.text)
  }
  for (let removed = true; removed; ) {
    removed = false
    for (let at = path.length - 1; at >= 0; at--) {
      if (path[at] === FAIR) continue
      const shorter = path.toSpliced(at, 1)
      if (!(await stays(shorter))) continue
      path = shorter
      removed = true
    }
  }
  return { ...finding, path }
}

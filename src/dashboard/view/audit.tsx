import type { RulesBody } from '../model.js'
import { changeText, subjectText } from './audit-text.js'
import { clockTime, linkWith, whole } from './format.js'
import { Card, Empty, Pager } from './parts.js'

export function Audit({ body, nowMs, url }: { body: RulesBody; nowMs: number; url: string }) {
  const { audit, auditBy, auditLimit } = body
  return (
    <Card
      id="audit"
      title="Audit"
      note="every change, the newest first"
      right={
        <search class="find">
          <form action="/rules">
            <input type="search" name="by" value={auditBy} placeholder="By whom" aria-label="Changes by one actor" />
          </form>
        </search>
      }
    >
      {audit.length === 0 ? (
        <Empty>{auditBy === '' ? 'Nothing was changed yet.' : `Nothing was changed by ${auditBy}.`}</Empty>
      ) : (
        <table class="t audit">
          <caption class="vh">Changes</caption>
          <thead>
            <tr>
              <th>At</th>
              <th>By</th>
              <th>What</th>
              <th>Of</th>
              <th>Before → after</th>
            </tr>
          </thead>
          <tbody>
            {audit.map((entry) => (
              <tr key={entry.id}>
                <td class="nw end">{clockTime(Date.parse(entry.at), nowMs)}</td>
                <td>{entry.by}</td>
                <td class="lead">
                  <code>{entry.what}</code>
                </td>
                <td data-l="·">{subjectText(entry)}</td>
                <td class="wide">{changeText(entry.before, entry.after)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {audit.length >= auditLimit && (
        <Pager text={`${whole(audit.length)} shown`} links={[{ text: 'Older', href: `${linkWith(url, { audit: String(auditLimit * 2) })}#audit` }]} />
      )}
    </Card>
  )
}

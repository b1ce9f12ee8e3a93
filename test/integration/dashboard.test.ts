import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { expect, test } from 'vitest'
import { dashboardPages } from '../../src/dashboard/dashboard.js'
import type { ServerSettings } from '../../src/http/server-settings.js'
import { issueSession, readSession } from '../../src/http/session.js'
import { HOUR } from '../../src/model/time.js'
import { newNamespace } from '../support/namespace.js'
import { startServer, type TestServer } from '../support/server.js'

const PRODUCER = 'producer-key-0123456789'
const VIEWER = 'viewer-key-0123456789'
const ADMIN = 'administrator-key-0123456789'
const KEYS = { producerKeys: [PRODUCER], viewerKeys: [VIEWER], adminKeys: [ADMIN] }
const RULES = [{ name: 'account', scope: 'agent', limits: [{ requests: 60, per: 'minute', burst: 1 }] }]

const start = (settings: Partial<ServerSettings> = {}): Promise<TestServer> =>
  startServer(newNamespace(), { settings, open: { rules: RULES }, pages: dashboardPages() })

/** Signs in as a browser does. @returns the answer, and the cookie */
async function signIn({ url }: TestServer, key: string, by = 'ann'): Promise<{ status: number; cookie: string }> {
  const body = new URLSearchParams({ key, by, next: '/lines' })
  const answer = await fetch(`${url}/login`, { method: 'POST', body, redirect: 'manual', headers: { origin: url } })
  return { status: answer.status, cookie: answer.headers.get('set-cookie') ?? '' }
}

const cookieOf = (header: string) => header.split(';')[0] as string

test('a page needs the key of a viewer or an administrator; producers see no pages', async () => {
  const server = await start(KEYS)
  const out = await fetch(`${server.url}/lines`)
  expect(out.status).toBe(401)
  expect(await out.text()).toContain('Sign in to Tollgate')
  expect((await signIn(server, PRODUCER)).status).toBe(403)
  expect((await signIn(server, 'no-key-at-all-0123456789')).status).toBe(403)
  for (const key of [VIEWER, ADMIN]) {
    const { status, cookie } = await signIn(server, key)
    expect(status).toBe(303)
    expect(cookie).toMatch(/; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/)
    expect(cookie).not.toContain(key)
    const page = await fetch(`${server.url}/lines`, { headers: { cookie: cookieOf(cookie) } })
    expect(page.status).toBe(200)
    expect(await page.text()).toContain('<h1>Lines</h1>')
  }
  expect((await server.send('GET', '/dashboard/model?url=/', undefined, { authorization: `Bearer ${PRODUCER}` })).status).toBe(403)
})

test('a viewer sees everything and changes nothing, by key and by session; an administrator changes, under the name of the session', async () => {
  const server = await start(KEYS)
  const viewer = { cookie: cookieOf((await signIn(server, VIEWER)).cookie), origin: server.url }
  const admin = { cookie: cookieOf((await signIn(server, ADMIN)).cookie), origin: server.url }
  const pause = { for: { team: 'search' } }
  for (const headers of [viewer, { authorization: `Bearer ${VIEWER}` }]) {
    for (const path of ['/v1/rules', '/v1/audit', '/v1/stats', '/v1/lines', '/v1/meters/account?value=openai'])
      expect((await server.send('GET', path, undefined, headers)).status, path).toBe(200)
    expect(await server.send('POST', '/v1/pauses', pause, headers)).toMatchObject({ status: 403, json: { code: 'FORBIDDEN' } })
    expect((await server.send('POST', '/v1/calls', { agent: 'openai' }, headers)).status).toBe(403)
    expect((await server.send('DELETE', '/v1/rules/account', undefined, headers)).status).toBe(403)
    expect((await server.send('POST', '/dashboard/rule', { name: '', yaml: '' }, headers)).status).toBe(403)
  }
  expect((await server.send('POST', '/v1/pauses', pause, admin)).status).toBe(200)
  expect(server.tollgate.paused()).toMatchObject([{ by: 'ann' }])
})

test('what a browser sends to change something names this server as its origin', async () => {
  const server = await start(KEYS)
  const cookie = cookieOf((await signIn(server, ADMIN)).cookie)
  const body = { for: { team: 'search' } }
  expect((await server.send('POST', '/v1/pauses', body, { cookie })).status).toBe(403)
  expect((await server.send('POST', '/v1/pauses', body, { cookie, origin: 'https://evil.example' })).status).toBe(403)
  expect((await server.send('POST', '/login', body, { origin: 'https://evil.example' })).status).toBe(403)
  expect(server.tollgate.paused()).toEqual([])
})

/** The status of a request with any headers, which fetch would not send. */
function statusOf(url: string, headers: Record<string, string>): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers }, (response) => {
      response.resume()
      resolve(response.statusCode)
    })
    sent.on('error', reject).end()
  })
}

test('a link of another site opens a page, and nothing else of the server', async () => {
  const server = await start()
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
  expect(await statusOf(`${server.url}/lines`, link)).toBe(200)
  expect(await statusOf(`${server.url}/v1/rules`, link)).toBe(403)
  expect(await statusOf(`${server.url}/dashboard/model?url=/`, link)).toBe(403)
  expect(await statusOf(`${server.url}/lines`, { ...link, 'sec-fetch-dest': 'iframe' })).toBe(403)
  expect(await statusOf(`${server.url}/lines`, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).toBe(403)
})

test('a session is of its key: another key does not sign it, it ends with the key and after 12 hours, and no part of it can be changed', () => {
  const digest = (key: string) => createHash('sha256').update(key).digest()
  const [admin, viewer] = [digest('admin'), digest('viewer')]
  const session = issueSession(viewer, { role: 'viewer', by: 'ann' }, 0)
  const read = (value: string, viewers: Buffer[], admins: Buffer[], nowMs = 1) =>
    readSession(`a=b; tollgate_session=${value}`, { viewer: viewers, admin: admins }, nowMs)
  expect(read(session, [viewer], [admin])).toEqual({ role: 'viewer', by: 'ann' })
  expect(read(session, [], [admin])).toBeUndefined()
  expect(read(session, [], [viewer])).toBeUndefined()
  expect(read(session, [viewer], [], 12 * HOUR)).toBeUndefined()
  const [, signed] = session.split('.')
  const forged = Buffer.from(JSON.stringify(['admin', 'eve', 1e15, 'x'])).toString('base64url')
  for (const value of [`${forged}.${signed}`, `${forged}.`, forged, '', '.', `${session}x`]) expect(read(value, [viewer], [admin]), value).toBeUndefined()
})

test('no page has an inline script or style, its policy allows neither, and the description of the server has no page', async () => {
  const server = await start()
  for (const path of ['/', '/lines', '/call', '/call?id=none', '/budgets', '/rules', '/rules?edit=account']) {
    const page = await fetch(server.url + path)
    const html = await page.text()
    expect(page.status, path).toBe(200)
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self';/)
    expect(html, path).not.toMatch(/ style=| on\w+="|<style|javascript:/)
    expect([...html.matchAll(/<script(?! type="application\/json" id="model">| type="module" src="\/assets\/client\.js\?v=[\w-]+">)/g)], path).toEqual([])
    expect(html, path).not.toMatch(/(?:src|href)="(?:https?:)?\/\//)
  }
  const { json } = await server.send('GET', '/openapi.json')
  expect(Object.keys((json as { paths: object }).paths).filter((path) => !/^\/(v1\/|healthz|readyz|metrics)/.test(path))).toEqual([])
})

test('text of calls and rules cannot become markup', async () => {
  const server = await start()
  const evil = '</script><img src=x onerror=alert(1)>'
  await server.tollgate.pause({ team: evil }, { reason: evil, by: 'ann' })
  for (const path of ['/', '/rules', `/call?id=${encodeURIComponent(evil)}`]) {
    const html = await (await fetch(server.url + path)).text()
    expect(html, path).not.toContain('<img')
    expect(html.match(/<\/script>/g), path).toHaveLength(2)
  }
})

/** How many bytes a request brings, compressed. */
function bytesOf(url: string): Promise<{ bytes: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers: { 'accept-encoding': 'gzip' } }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        const body = Buffer.concat(chunks)
        expect(response.headers['content-encoding'], url).toBe('gzip')
        import('node:zlib').then(({ gunzipSync }) => resolve({ bytes: body.length, text: gunzipSync(body).toString() }), reject)
      })
    })
    sent.on('error', reject).end()
  })
}

test('the first load of every page is at most 80 kB, compressed, with the plot and everything', async () => {
  const server = await start()
  const files = new Map<string, number>()
  const load = async (path: string): Promise<void> => {
    if (files.has(path)) return
    const { bytes, text } = await bytesOf(server.url + path)
    files.set(path, bytes)
    for (const [, file] of text.matchAll(/["'](?:\.\/|\/assets\/)([\w.-]+\.(?:js|css)(?:\?v=[\w-]+)?)["']/g)) await load(`/assets/${file}`)
  }
  for (const path of ['/', '/lines', '/budgets', '/rules', '/call']) await load(path)
  expect(files.size).toBeGreaterThan(7)
  expect([...files.values()].reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(80_000)
})

test('a rule is previewed and changed as text: faults name the line, another change meanwhile is not overwritten', async () => {
  const server = await start()
  const headers = { 'x-tollgate-actor': 'ann' }
  const preview = (name: string, yaml: string) => server.send('POST', '/dashboard/rule-preview', { name, yaml }, headers)
  const base = 'name: account\nscope: agent\nlimits:\n  - { requests: 60, per: minute, burst: 1 }\n'
  expect((await preview('account', base.replace('60', '"many"'))).json).toMatchObject({ faults: [expect.stringMatching(/^line 4: limits\.0\.requests/)] })
  expect((await preview('account', base.replace('account', 'other'))).json).toMatchObject({ faults: [expect.stringContaining('name must stay account')] })
  const changed = base.replace('60', '120')
  expect((await preview('account', changed)).json).toMatchObject({
    faults: [],
    diff: expect.arrayContaining([
      { kind: 'removed', text: '  - { requests: 60, per: minute, burst: 1 }' },
      { kind: 'added', text: '  - { requests: 120, per: minute, burst: 1 }' },
    ]),
  })
  expect((await server.send('POST', '/dashboard/rule', { name: 'account', base, yaml: changed }, headers)).json).toEqual({ name: 'account' })
  expect(server.tollgate.rules.get('account')?.limits[0]?.requests).toBe(120)
  const late = await server.send('POST', '/dashboard/rule', { name: 'account', base, yaml: base.replace('60', '90') }, headers)
  expect(late).toMatchObject({ status: 400, json: { detail: expect.stringContaining('was changed by somebody else') } })
  expect(server.tollgate.rules.get('account')?.limits[0]?.requests).toBe(120)
})

/** Reads events of a stream until a number of snapshots has come. */
async function snapshotsOf(url: string, count: number, headers: Record<string, string> = {}): Promise<string[]> {
  const aborter = new AbortController()
  const answer = await fetch(url, { signal: aborter.signal, headers })
  let text = ''
  for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString()
    if (text.split('\n\n').filter((event) => event.startsWith('event: snapshot')).length >= count) break
  }
  aborter.abort()
  return text.split('\n\n').flatMap((event) => /^event: snapshot\ndata: (.*)$/s.exec(event)?.[1] ?? [])
}

test('all viewers of a page get the same snapshot, and a stream ends with its viewer', async () => {
  const server = await start()
  const stream = `${server.url}/dashboard/stream?url=${encodeURIComponent('/lines?from=0')}`
  const [one = [], other = []] = await Promise.all([snapshotsOf(stream, 2), snapshotsOf(stream, 2)])
  expect(one.slice(0, 2)).toEqual(other.slice(0, 2))
  expect(JSON.parse(one[0] as string)).toMatchObject({ body: { page: 'lines' }, health: { state: 'flowing' } })
  await expect.poll(() => server.server.held).toBe(0)
})

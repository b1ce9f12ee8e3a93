import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** A CA, and what it signed for a server at 127.0.0.1 and for a client: files in a folder. */
export function makeCertificates(folder: string) {
  const file = (name: string) => join(folder, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' })
  const ca = { cert: file('ca.crt'), key: file('ca.key') }
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=Tollgate test CA', '-keyout', ca.key, '-out', ca.cert)
  const signed = (name: string): CertificateFiles => {
    const made = { cert: file(`${name}.crt`), key: file(`${name}.key`) }
    const request = file(`${name}.csr`)
    const names = file(`${name}.ext`)
    writeFileSync(names, 'subjectAltName=IP:127.0.0.1,DNS:localhost\n')
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${name}`, '-keyout', made.key, '-out', request)
    openssl('x509', '-req', '-in', request, '-CA', ca.cert, '-CAkey', ca.key, '-CAcreateserial', '-days', '2', '-extfile', names, '-out', made.cert)
    return made
  }
  const server = signed('server')
  const client = signed('client')
  const options = { ca: readFileSync(ca.cert), cert: readFileSync(client.cert), key: readFileSync(client.key) }
  return { ca: ca.cert, server, client, options }
}

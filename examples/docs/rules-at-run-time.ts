import { Tollgate } from '../../src/index.js'

const tollgate = await Tollgate.open({ actor: 'deploy' })

await tollgate.rules.add({ name: 'trial', scope: 'org', limits: [{ requests: 100, per: 'day' }] }, { by: 'ann' })
await tollgate.rules.update('trial', { limits: [{ requests: 200, per: 'day' }] }, { by: 'ann' })
console.log(tollgate.rules.get('trial')?.limits)
await tollgate.rules.remove('trial', { by: 'ann' })

await tollgate.setCapacity('openai', 60, 'minute')
console.log(await tollgate.capacity.get('openai'))
await tollgate.setCapacity('openai', null)
await tollgate.close()

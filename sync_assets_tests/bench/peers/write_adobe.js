// Peer, writing: Adobe's own client for Campaign Standard, with so many requests in flight.
//
// node write_adobe.js PACKAGE_FOLDER URL BODIES SECONDS IN_FLIGHT: posts lines of the file BODIES for so many seconds,
// or until there are no more. The result goes to the file that BENCH_RESULT names, as with meter.py.
'use strict'
const fs = require('fs')
const path = require('path')

const [folder, url, bodies, seconds, inFlight] = process.argv.slice(2)
const client = path.join(folder, 'node_modules', '@adobe', 'aio-lib-campaign-standard')
require(path.join(client, 'spec', 'api.json')).servers[0].url = `${url}/campaign`
const sdk = require(client)

async function main () {
  const records = fs.readFileSync(bodies, 'utf8').split('\n').filter(Boolean).map(line => JSON.parse(line))
  const campaign = await sdk.init('bench', 'bench', 'x'.repeat(1100))
  let next = 0
  let done = 0
  const cpu = process.cpuUsage()
  const started = process.hrtime.bigint()
  const elapsed = () => Number(process.hrtime.bigint() - started) / 1e9
  async function work () {
    while (next < records.length && elapsed() < Number(seconds)) {
      const said = await campaign.createProfile(records[next++])
      if (!said.body.PKey) throw new Error('no PKey')
      done++
    }
  }
  await Promise.all(Array.from({ length: Number(inFlight) }, work))
  const took = elapsed()
  const used = process.cpuUsage(cpu)
  fs.writeFileSync(process.env.BENCH_RESULT, JSON.stringify({
    items: done,
    seconds: took,
    cpu_seconds: (used.user + used.system) / 1e6,
    peak_bytes: process.resourceUsage().maxRSS * 1024
  }))
}

main().catch(error => { console.error(error); process.exit(1) })

// `npm run demo`: a project from the Debian template in a temporary folder, built, booted and asked for its web page. The
// folder stays, for whoever watched to go on in it.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const program = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist/main.mjs')
const folder = join(mkdtempSync(join(tmpdir(), 'vlb-demo-')), 'web')
const bold = (text) => (process.stdout.isTTY ? `\u001b[1m${text}\u001b[22m` : text)
const title = (text) => console.log(`\n${bold(`$ ${text}`)}`)

/** Runs a command before the eyes of the user; ends the demo with its status if it fails. */
function show(shown, command, args, cwd) {
  title(shown)
  const { status } = spawnSync(command, args, { cwd, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

function vlb(...args) {
  show(`git vlb ${args.join(' ')}`, process.execPath, [program, ...args], args[0] === 'init' ? dirname(folder) : folder)
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Boots the image, waits for the login prompt on its console, fetches the page from its nginx, and ends it. */
async function bootAndFetch() {
  const port = await freePort()
  title(`git vlb test-boot --console --forward ${port}:80`)
  const guest = spawn(process.execPath, [program, 'test-boot', '--console', '--forward', `${port}:80`], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const seen = { text: '', enough: false }
  for (const stream of [guest.stdout, guest.stderr]) {
    stream.on('data', (chunk) => {
      seen.text += chunk
      if (!seen.enough) process.stdout.write(chunk)
    })
  }
  const ended = new Promise((resolve) => guest.once('close', resolve))
  try {
    const prompt = await waitForPrompt(seen, ended)
    const page = await fetchPage(port)
    console.log(`\n\n${bold('The guest shows its login prompt:')} ${prompt}`)
    console.log(`${bold(`and its nginx answers on http://127.0.0.1:${port}/ :`)} ${page}`)
  } finally {
    // That it was ended from here is no news.
    seen.enough = true
    guest.kill('SIGTERM')
    await ended
  }
}

async function waitForPrompt(seen, ended) {
  let over = false
  void ended.then(() => (over = true))
  for (let i = 0; i < 3000; i++) {
    const match = /^.*login: ?$/m.exec(seen.text)
    if (match) return match[0].trim()
    if (over) break
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error('the guest never showed a login prompt')
}

/** nginx may come up a moment after the prompt. */
async function fetchPage(port) {
  for (let i = 0; ; i++) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(10_000) })
      const title = /<title>([^<]*)<\/title>/.exec(await response.text())?.[1] ?? '(no title)'
      return `${response.status} ${response.statusText}, "${title.trim()}"`
    } catch (error) {
      if (i === 30) throw error
      await new Promise((resolve) => setTimeout(resolve, 1000))
    }
  }
}

const identity = ['-c', 'user.name=git vlb demo', '-c', 'user.email=demo@example.com']
vlb('init', '--template', 'debian', folder)
show(
  'git add . && git commit -m "A web server image"',
  'sh',
  ['-c', `git add . && git ${identity.map((word) => `'${word}'`).join(' ')} commit -q -m "A web server image"`],
  folder,
)
vlb('build')
await bootAndFetch()
vlb('status')

console.log(`
${bold('It is all yours:')} ${folder}
  cd ${folder}
  echo 'Hello from git vlb' >> 20_site/site/index.html
  git vlb build                 # builds 20_site and 30_motd again, in a second
  git vlb new php               # the next layer
  git vlb test-boot --console   # look around in it; ^a x leaves
(git finds the verb when git-vlb is on your PATH: npm install --global ${dirname(dirname(program))})
`)

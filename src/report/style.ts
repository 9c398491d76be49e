// Colours, or none: decided once, from NO_COLOR and from whether the stream is a terminal.
import { styleText } from 'node:util'

type Look = Parameters<typeof styleText>[0]

export type Style = (look: Look, text: string) => string

export function makeStyle(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv): Style {
  // https://no-color.org: set and not empty.
  const plain = !stream.isTTY || Boolean(env['NO_COLOR']) || env['TERM'] === 'dumb'
  return plain ? (_look, text) => text : (look, text) => styleText(look, text, { validateStream: false })
}

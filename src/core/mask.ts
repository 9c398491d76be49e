// Keeps secrets out of logs: whatever comes near one, as it is, in base64 or URL-escaped, is shown as ***.

/** Shorter texts are no secrets, and masking them would garble every log. */
const shortest = 4
const veil = '***'

/** The forms in which a secret may turn up, longest first. Bytes as latin1 text. */
export function maskedForms(secret: Buffer): string[] {
  const trimmed = Buffer.from(secret.toString('latin1').replace(/\s+$/, ''), 'latin1')
  const lines = trimmed.toString('latin1').split(/\r?\n/)
  const encoded = [secret, trimmed, Buffer.concat([trimmed, Buffer.from('\n')])].flatMap((bytes) => [
    bytes.toString('base64'),
    bytes.toString('base64url'),
    bytes.toString('hex'),
  ])
  const url = [encodeURIComponent(trimmed.toString('utf8')), escapeAll(trimmed)]
  const forms = [...lines, ...encoded.flatMap(wrapped), ...url, ...url.map((text) => text.replaceAll('%20', '+'))]
  return [...new Set(forms.filter((form) => form.length >= shortest))].sort((a, b) => b.length - a.length)
}

/** base64(1) breaks its output every 76 characters: each line is a form of its own, and so is the text without "=". */
function wrapped(text: string): string[] {
  const whole = [text, text.replace(/=+$/, '')]
  return text.length <= 76 ? whole : [...whole, ...(text.match(/.{1,76}/g) ?? []).filter((line) => line.length > 16)]
}

/** With every byte escaped that is no letter or digit, in small letters, as some tools do it. */
function escapeAll(bytes: Buffer): string {
  return [...bytes]
    .map((b) =>
      /[A-Za-z0-9]/.test(String.fromCharCode(b)) ? String.fromCharCode(b) : `%${b.toString(16).padStart(2, '0')}`,
    )
    .join('')
}

/** Masks a stream: holds back as many bytes as a secret could still need to be complete. */
export class Mask {
  readonly #forms: string[]
  readonly #longest: number
  #held = ''

  constructor(secrets: readonly Buffer[]) {
    this.#forms = secrets.flatMap(maskedForms).sort((a, b) => b.length - a.length)
    this.#longest = this.#forms[0]?.length ?? 0
  }

  /** What of the stream can be shown by now. */
  push(chunk: Buffer): Buffer {
    if (this.#longest === 0) return chunk
    const text = this.#veiled(this.#held + chunk.toString('latin1'))
    // A whole line goes out at once unless a secret has more than one: then a live view stays live.
    const keep = this.#pending(text)
    this.#held = text.slice(text.length - keep)
    return Buffer.from(text.slice(0, text.length - keep), 'latin1')
  }

  end(): Buffer {
    const rest = Buffer.from(this.#held, 'latin1')
    this.#held = ''
    return rest
  }

  #veiled(text: string): string {
    return this.#forms.reduce((shown, form) => shown.replaceAll(form, veil), text)
  }

  /** Length of the longest end of the text that a form begins with. */
  #pending(text: string): number {
    for (let length = Math.min(this.#longest - 1, text.length); length > 0; length--) {
      const end = text.slice(text.length - length)
      if (this.#forms.some((form) => form.startsWith(end))) return length
    }
    return 0
  }
}

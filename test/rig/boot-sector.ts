// A guest in 446 bytes: a boot sector in real mode that writes a text to the first serial port. No kernel, no time.

const endings = {
  hang: [0xf4, 0xeb, 0xfd], // hlt; jmp
  restart: [0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd], // mov al, 0xfe; out 0x64, al (keyboard controller: reset)
  // mov dx, 0x604; mov ax, 0x2000; out dx, ax (ACPI sleep control of Q35 once SeaBIOS has set it up: power off)
  powerOff: [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd],
  repeat: [],
}

export type Ending = keyof typeof endings

/** `textAt`: where in the sector the text lies, up to a zero byte. There is room for some 390 bytes of it. */
export function bootSector(text: string, ending: Ending): { sector: Buffer; textAt: number } {
  const code = [
    ...[0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0, 0], // start: xor ax, ax; mov ds, ax; mov si, text
    ...[0xac, 0x84, 0xc0, 0x74, 0x12], // next: lodsb; test al, al; jz end
    ...[0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb], // mov ah, al; mov dx, 0x3fd; wait: in al, dx; test al, 0x20; jz wait
    ...[0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe9], // mov dx, 0x3f8; mov al, ah; out dx, al; jmp next
  ]
  code.push(...(ending === 'repeat' ? [0xeb, 256 - code.length - 2] : endings[ending]))
  const sector = Buffer.alloc(512)
  sector.set(code)
  sector.writeUInt16LE(0x7c00 + code.length, 5)
  sector.write(`${text}\0`, code.length)
  sector.set([0x55, 0xaa], 510)
  return { sector, textAt: code.length }
}

// What a layer is: its name and order, what its folder holds, and whether its script can run at all.
import { type Directives, parseDirectives } from './directives.ts'
import { printable, VlbError } from './errors.ts'
import type { TreeId } from './ids.ts'

/** One entry of a git tree. Modes as git writes them: 100644, 100755, 120000 (symlink), 40000 (tree), 160000 (submodule). */
export interface TreeEntry {
  name: string
  mode: string
  oid: string
}

/** By what its folder holds: a script of that name, or a folder of further layers. */
export type LayerKind = 'build-base' | 'build-layer' | 'modify-disk' | 'layers'

export interface Layer {
  name: string
  kind: LayerKind
  tree: TreeId
  directives: Directives
  /** The program its `#!` line names; undefined for a binary. */
  interpreter: string | undefined
  /** What its `include` directives name: object id by path, with the mode. Part of its key. */
  includes: Record<string, TreeEntry>
  /** Of a rolled-up layer: the layers it is made of, in order; its own directives are theirs together. */
  steps?: Layer[]
  /** Differs from what is committed. */
  dirty: boolean
}

const kinds: readonly LayerKind[] = ['build-base', 'build-layer', 'modify-disk', 'layers']

/** The folder of a rolled-up layer that its layers are in. */
export const stepsFolder = 'layers'
const layerName = /^[0-9]{2,}_[A-Za-z0-9._-]+$/
const almostLayerName = /^[0-9]+_/

/** Whether a folder of that name is a layer. A folder that was surely meant as one, but is misnamed, is an error. */
export function isLayerName(name: string): boolean {
  if (layerName.test(name)) return true
  if (!almostLayerName.test(name)) return false
  throw new VlbError('VLB_LAYER_NAME', `folder "${printable(name)}" looks like a layer, but its name is not NN_name`, {
    hint: 'use at least two digits, "_", then letters, digits, ".", "_" or "-": git mv it to such a name',
  })
}

/** By number, then by name in byte order. */
export function compareLayerNames(a: string, b: string): number {
  const [na, nb] = [BigInt(a.slice(0, a.indexOf('_'))), BigInt(b.slice(0, b.indexOf('_')))]
  if (na !== nb) return na < nb ? -1 : 1
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

/**
 * What makes a folder a layer: its script, or its folder of layers. Throws if there is none, more than one, or a script
 * that git does not hold as executable.
 */
export function findScript(layer: string, entries: readonly TreeEntry[]): TreeEntry & { name: LayerKind } {
  const found = entries.filter(
    (e): e is TreeEntry & { name: LayerKind } =>
      kinds.includes(e.name as LayerKind) && (e.name !== stepsFolder || e.mode === '40000'),
  )
  const [script, second] = found
  if (!script) {
    throw new VlbError('VLB_LAYER_KIND', `${layer} holds no script`, {
      hint: `add an executable ${layer}/build-layer, or move the folder away if it is no layer`,
    })
  }
  if (second) {
    const mixed = [script, second].find(({ name }) => name === stepsFolder)
    const what = mixed
      ? `holds both a script and ${stepsFolder}/`
      : `holds two scripts, ${script.name} and ${second.name}`
    throw new VlbError('VLB_LAYER_KIND', `${layer} ${what}`, {
      hint: 'a layer has exactly one of them: split it into two layers',
    })
  }
  if (script.name === stepsFolder) return script
  const path = `${layer}/${script.name}`
  if (script.mode === '100644') {
    throw new VlbError('VLB_SCRIPT_MODE', `${path} is not executable`, {
      hint: `git add --chmod=+x ${path} && chmod +x ${path}`,
    })
  }
  if (script.mode !== '100755') {
    throw new VlbError('VLB_SCRIPT_MODE', `${path} is not a regular file`, {
      hint: 'replace it by an executable script or program',
    })
  }
  return script
}

/** Directives and interpreter of a script, from its first bytes. */
export function readScript(content: Buffer, path: string): { directives: Directives; interpreter: string | undefined } {
  if (isLfsPointer(content)) throw lfsPointer(path)
  if (content.subarray(0, 4).equals(Buffer.from('\x7fELF', 'latin1'))) {
    return { directives: parseDirectives('', path), interpreter: undefined }
  }
  const text = content.toString('utf8')
  const first = text.slice(0, text.indexOf('\n') + 1 || undefined).replace(/\n$/, '')
  if (!first.startsWith('#!')) {
    throw new VlbError('VLB_SCRIPT_SHEBANG', `${path} does not start with #! and is no program`, {
      hint: 'start it with a line such as #!/bin/sh',
    })
  }
  if (first.endsWith('\r')) {
    throw new VlbError(
      'VLB_SCRIPT_CRLF',
      `${path} has Windows line ends (CRLF): the kernel would look for "${printable(first.slice(2, -1).trim())}\\r"`,
      {
        hint: `sed -i 's/\\r$//' ${path} && git add ${path}; and to keep it so: echo '${path} text eol=lf' >> .gitattributes`,
      },
    )
  }
  const interpreter = first.slice(2).trim().split(/\s+/)[0]
  if (!interpreter?.startsWith('/')) {
    throw new VlbError('VLB_SCRIPT_SHEBANG', `${path}: its #! line names no absolute path: "${printable(first)}"`, {
      hint: 'start it with a line such as #!/bin/sh or #!/usr/bin/env python3',
    })
  }
  return { directives: parseDirectives(text, path), interpreter }
}

/** Whether a blob is what Git LFS commits in place of a large file (git-lfs docs/spec.md: first line, at most 1024 bytes). */
export function isLfsPointer(content: Buffer): boolean {
  return content.length <= 1024 && content.toString('latin1').startsWith('version https://git-lfs.github.com/spec/')
}

export function lfsPointer(path: string): VlbError {
  return new VlbError(
    'VLB_LAYER_LFS',
    `${printable(path)} is a Git LFS pointer: git holds only a note about the file, not its bytes`,
    {
      hint: 'fetch it by its digest in the script, or take it out of LFS: git lfs migrate export --include=PATH',
    },
  )
}

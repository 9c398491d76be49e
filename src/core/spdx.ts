// The bill of materials of an image, as SPDX 2.3 in JSON: made from its package list, and the same for the same image.
import { createHash } from 'node:crypto'
import type { Package, PackageList } from './packages.ts'

export interface SbomSubject {
  /** Name of the project. */
  name: string
  contentId: string
  /** When the last layer was built, ISO 8601. */
  builtAt: string
  /** The version of git vlb. */
  version: string
}

const none = 'NOASSERTION'
const nothingSaid = {
  downloadLocation: none,
  filesAnalyzed: false,
  licenseConcluded: none,
  licenseDeclared: none,
  copyrightText: none,
}

export function spdxDocument(subject: SbomSubject, list: PackageList): object {
  const { name, contentId, builtAt, version } = subject
  const packages = list.packages.map((one) => packageOf(one, list))
  const problem = list.problem === undefined ? {} : { comment: `The list may be incomplete: ${list.problem}` }
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name,
    // One for each image: the content id says what is in it. The number is that of this form.
    documentNamespace: `https://spdx.org/spdxdocs/git-vlb-1/${quote(name)}-${contentId}`,
    creationInfo: { created: builtAt.replace(/\.\d+Z$/, 'Z'), creators: [`Tool: git-vlb-${version}`] },
    ...problem,
    packages: [
      {
        SPDXID: 'SPDXRef-Image',
        name,
        versionInfo: contentId,
        primaryPackagePurpose: 'OPERATING_SYSTEM',
        ...(list.os ? { description: list.os.name ?? list.os.id } : {}),
        ...nothingSaid,
      },
      ...packages,
    ],
    relationships: [
      { spdxElementId: 'SPDXRef-DOCUMENT', relationshipType: 'DESCRIBES', relatedSpdxElement: 'SPDXRef-Image' },
      ...packages.map(({ SPDXID }) => ({
        spdxElementId: 'SPDXRef-Image',
        relationshipType: 'CONTAINS',
        relatedSpdxElement: SPDXID,
      })),
    ],
  }
}

function packageOf(one: Package, list: PackageList) {
  const { name, version, arch, source } = one
  const locator = packageUrl(one, list)
  return {
    SPDXID: elementId(one),
    name,
    versionInfo: version,
    ...(source === undefined ? {} : { sourceInfo: `built from the source package ${source}` }),
    ...(arch === '' ? {} : { comment: `architecture: ${arch}` }),
    ...nothingSaid,
    ...(locator === undefined
      ? {}
      : {
          externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: locator }],
        }),
  }
}

/** Of letters, digits, "." and "-" alone, so it cannot be just the name; the digest keeps those apart that look alike. */
function elementId({ name, version, arch }: Package): string {
  const digest = createHash('sha256').update(`${name}\0${arch}\0${version}`).digest('hex').slice(0, 12)
  return `SPDXRef-Package-${name.replace(/[^A-Za-z0-9.-]+/g, '-').slice(0, 80)}-${digest}`
}

const types = { dpkg: 'deb', rpm: 'rpm', apk: 'apk', pacman: 'alpm' } as const
const usualVendor = { dpkg: 'debian', rpm: undefined, apk: 'alpine', pacman: 'arch' } as const

/** A package URL, as the specification of each type has it. */
export function packageUrl({ name, version, arch }: Package, list: PackageList): string | undefined {
  const { manager, os } = list
  if (!manager) return undefined
  const vendor = os?.id.toLowerCase() ?? usualVendor[manager]
  const qualifiers: [key: string, value: string][] = arch === '' ? [] : [['arch', arch]]
  if (os?.version !== undefined) qualifiers.push(['distro', `${os.id}-${os.version}`])
  // Only rpm's has the epoch apart from the version.
  const epoch = manager === 'rpm' ? /^(\d+):(.*)$/s.exec(version) : null
  if (epoch?.[1]) qualifiers.push(['epoch', epoch[1]])
  const parts = [types[manager], vendor, manager === 'rpm' ? name : name.toLowerCase()].filter(
    (part) => part !== undefined,
  )
  const query = qualifiers.map(([key, value]) => `${key}=${quote(value)}`).join('&')
  return `pkg:${parts.map(quote).join('/')}@${quote(epoch?.[2] ?? version)}${query === '' ? '' : `?${query}`}`
}

/** Percent-encoding of a package URL: all but letters, digits, "." "_" "~" "-" and ":". */
function quote(text: string): string {
  return encodeURIComponent(text.replace(/\p{Cs}/gu, '\ufffd'))
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%3A', ':')
}

// Branded identifiers, so that a tree id cannot be passed where a key is meant.

declare const brand: unique symbol
type Branded<Name> = string & { readonly [brand]: Name }

/** A git tree object id: 40 or 64 hex digits. */
export type TreeId = Branded<'TreeId'>
/** What a layer is looked up by: 64 hex digits. */
export type LayerKey = Branded<'LayerKey'>
/** What a snapshot is: the key it was first built under. */
export type ContentId = Branded<'ContentId'>
/** Names one snapshot folder of the store: the key it was first built under, or another 64 digits for a later build. */
export type SnapshotId = Branded<'SnapshotId'>
/** Digest of a base as it is served or lies on disk, with its algorithm: `sha256:HEX` or `sha512:HEX`. */
export type Digest = Branded<'Digest'>

export const treeId = (text: string): TreeId => text as TreeId
export const layerKey = (text: string): LayerKey => text as LayerKey
export const contentId = (text: string): ContentId => text as ContentId
export const snapshotId = (text: string): SnapshotId => text as SnapshotId
export const digest = (text: string): Digest => text as Digest

/** The first 12 digits: enough for people. */
export const short = (id: string): string => id.replace(/^sha\d+:/, '').slice(0, 12)

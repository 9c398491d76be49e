// What we use of isomorphic-git, by name: so that the bundle holds no more of it, and takes less to load.
export { Errors, readBlob, readCommit, readTree } from 'isomorphic-git'

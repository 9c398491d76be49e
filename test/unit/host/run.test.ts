import { expect, test } from 'vitest'
import { failure } from '../../../src/host/run.ts'

test.each([
  ['git', 128, "fatal: sha1 file 'index.lock' write error. Out of diskspace", 'VLB_HOST_SPACE'],
  ['cp', 1, 'cp: error writing a: No space left on device', 'VLB_HOST_SPACE'],
  ['cp', 1, 'cp: error writing a: Disk quota exceeded', 'VLB_HOST_SPACE'],
  ['qemu-img', 1, 'qemu-img: error while reading: Input/output error', 'VLB_HOST_IO'],
  ['xz', 127, '', 'VLB_HOST_TOOL'],
  ['sh', 137, '', 'VLB_KILLED'],
])('%s with status %i that says %j is a %s', (tool, exitCode, stderr, code) => {
  expect(failure(tool, [], { exitCode, stderr })).toMatchObject({ code })
})

test('a failure that says nothing of the host is the program’s own', () => {
  expect(failure('git', ['fsck'], { exitCode: 1, stderr: 'bad tree' })).toMatchObject({
    name: 'ToolError',
    exitCode: 1,
  })
})

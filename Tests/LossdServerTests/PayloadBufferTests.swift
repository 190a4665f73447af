import Glibc
import LossdPluginHost
import LossdTensor
import LossdThreads
import Synchronization
import Testing

@testable import LossdServer

@Suite struct PayloadBufferTests {
  /// What was seen when the bytes came back to the account.
  private final class Seen: Sendable {
    let thread = Atomic<UInt>(0)
    let blocks = Atomic<Int>(-1)
    let done = Semaphore()
  }

  private func blocks(_ descriptor: Int32) -> Int {
    var file = stat()
    return fstat(descriptor, &file) == 0 ? Int(file.st_blocks) : -1
  }

  /// Processor time of this thread, nanoseconds.
  private func ownTime() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }

  @Test("a big segment that no pool keeps is freed on another thread, and then its bytes come back")
  func segments() throws {
    let bytes = 32 << 20
    let seen = Seen()
    let segment = try SharedSegment(bytes, isInput: false)
    // What shows whether pages are left when the segment is closed.
    let copy = dup(segment.descriptor)
    defer { close(copy) }
    try segment.allocate(0, bytes)
    #expect(blocks(copy) > 0)
    let account = MemoryBudget(bytesMax: 1 << 30, setting: "limits.test", owner: "a test") { _ in
      var file = stat()
      seen.blocks.store(fstat(copy, &file) == 0 ? Int(file.st_blocks) : -1, ordering: .relaxed)
      seen.thread.store(UInt(pthread_self()), ordering: .relaxed)
      seen.done.signal()
    }
    #expect(account.reserve(bytes) == nil)
    // A release is told to who waits.
    account.beginWaiting()
    let pool = SegmentPool(bytesMax: 1 << 20)
    do { _ = PayloadBuffer(reserved: bytes, account, segment, of: pool) }
    seen.done.wait()
    #expect(seen.thread.load(ordering: .relaxed) != UInt(pthread_self()))
    #expect(seen.blocks.load(ordering: .relaxed) == 0)
  }

  @Test("segments that a pool lets go of are freed on another thread than the loop's")
  func pool() throws {
    let bytes = 32 << 20
    let home = Seen()
    let pool = SegmentPool(bytesMax: 2 * bytes)
    var copies: [Int32] = []
    for _ in 0..<3 {
      let segment = try SharedSegment(bytes, isInput: false)
      segment.home = home
      try segment.allocate(0, bytes)
      copies.append(dup(segment.descriptor))
      #expect(pool.give(segment))
    }
    defer { for copy in copies { close(copy) } }
    // The first has had to make room.
    let begin = ownTime()
    pool.close()
    #expect(pool.isEmpty)
    let time = ownTime() - begin
    for copy in copies {
      for _ in 0..<1000 where blocks(copy) != 0 { usleep(1000) }
      #expect(blocks(copy) == 0)
    }
    // Freeing 64 MiB takes some 6 ms.
    #expect(time < 2_000_000)
  }
}

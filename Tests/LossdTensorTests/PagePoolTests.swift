import Glibc
import LossdTensor
import Testing

@Suite struct PagePoolTests {
  /// Pages of the process in memory, in bytes.
  private func residentBytes(_ base: UnsafeMutableRawPointer, _ bytes: Int) -> Int {
    var pages = [UInt8](repeating: 0, count: bytes / 4096)
    #expect(mincore(base, bytes, &pages) == 0)
    return pages.count { $0 & 1 == 1 } * 4096
  }

  @Test("blocks are of their size, at multiples of 4 KiB, and overlap no other")
  func sizes() throws {
    let pool = PagePool()
    var taken: [(base: UnsafeMutableRawPointer, bytes: Int)] = []
    for bytes in [1, 4096, 4097, 8192, 10_000, 65_536, 65_537, 1 << 20] {
      let capacity = PagePool.capacity(for: bytes)
      #expect(capacity >= bytes && capacity < max(2 * bytes, 4097))
      for _ in 0..<300 { taken.append((try #require(pool.take(bytes)), capacity)) }
    }
    for (index, block) in taken.enumerated() {
      #expect(Int(bitPattern: block.base) % 4096 == 0)
      // All of it can be written.
      block.base.storeBytes(of: index, as: Int.self)
      (block.base + block.bytes - 8).storeBytes(of: index, as: Int.self)
    }
    taken.sort { $0.base < $1.base }
    for (before, after) in zip(taken, taken.dropFirst()) {
      #expect(before.base + before.bytes <= after.base)
    }
    for block in taken { pool.give(block.base, block.bytes) }
  }

  @Test("what is given back keeps no pages but 2 MiB of each size, and is taken again")
  func pages() throws {
    let pool = PagePool()
    let bytes = 64 << 10
    func fill() throws -> [UnsafeMutableRawPointer] {
      try (0..<1000).map { _ in
        let block = try #require(pool.take(bytes))
        block.initializeMemory(as: UInt8.self, repeating: 1, count: bytes)
        return block
      }
    }
    let first = try fill()
    #expect(first.reduce(0) { $0 + residentBytes($1, bytes) } == 1000 * bytes)
    // Those in between stay in use.
    let (given, left) = (first.enumerated().filter { $0.offset % 10 != 0 }.map(\.element), 100)
    for block in given { pool.give(block, bytes) }
    #expect(given.reduce(0) { $0 + residentBytes($1, bytes) } == 2 << 20)
    #expect(first.reduce(0) { $0 + residentBytes($1, bytes) } == 2 << 20 + left * bytes)
    #expect(Set(try fill()).isSuperset(of: given))
  }
}

import LossdTensor
import Testing

@Suite struct AllocationTests {
  @Test(
    "memory that cannot be had is RESOURCE_EXHAUSTED and not the end",
    arguments: [
      1 << 50, 1 << 62, Int.max,
    ])
  func exhausted(bytes: Int) {
    for body in [
      { _ = try AlignedBuffer(reserving: bytes) },
      { _ = try BufferPool(cacheBytesMax: 1 << 20).take(bytes) },
    ] as [() throws -> Void] {
      #expect {
        try body()
      } throws: {
        ($0 as? StatusError)?.code == .resourceExhausted
          && ($0 as? StatusError)!.message.hasPrefix("cannot allocate")
      }
    }
  }

  @Test("memory that can be had begins at a multiple of 64, and a pool gives it again")
  func pool() throws {
    let pool = BufferPool(cacheBytesMax: 1 << 20)
    for count in [0, 1, 255, 256, 257, 5000, 1 << 16] {
      let buffer = try pool.take(count)
      #expect(UInt(bitPattern: buffer.base) % 64 == 0)
      #expect(buffer.capacity >= count)
      pool.give(buffer)
      #expect(try pool.take(count) === buffer)
    }
  }
}

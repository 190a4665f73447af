import CLinux
import Glibc
import LossdTensor
import Testing

@testable import LossdPluginHost

@Suite struct SegmentTests {
  /// The access that the kernel gives to an address: `r--s`.
  private func access(_ address: UnsafeRawPointer) throws -> String {
    let file = try #require(fopen("/proc/self/maps", "r"))
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 512)
    let place = UInt(bitPattern: address)
    while fgets(&line, 512, file) != nil {
      let text = String(cString: line)
      let parts = text.split(separator: " ")
      let range = parts[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
      if place >= range[0] && place < range[1] { return String(parts[1]) }
    }
    return "none"
  }

  @Test("an input can be read while a call has it, never written, and neither between calls")
  func inputs() throws {
    let segment = try SharedSegment(100_000, isInput: true)
    try segment.allocate(0, 100_000)
    segment.base.storeBytes(of: 0x1234, as: UInt32.self)
    let mappings = SegmentMappings()
    let base = try mappings.open(
      segment.id, capacity: segment.capacity, used: 5000, isInput: true, dup(segment.descriptor))
    #expect(base.load(as: UInt32.self) == 0x1234)
    #expect(try access(base) == "r--s")
    #expect(try access(base + 4096) == "r--s")
    #expect(try access(base + 8192) == "---s", "no page beyond what the call brought")
    mappings.closeAll()
    #expect(try access(base) == "---s")
    // By its descriptor neither: it is sealed.
    #expect(
      mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, segment.descriptor, 0) == MAP_FAILED)
    #expect(write(segment.descriptor, "x", 1) < 0)
    #expect(ftruncate(segment.descriptor, 0) != 0)
    #expect(ftruncate(segment.descriptor, 1 << 20) != 0)
    mappings.forget(segment.id)
    #expect(try access(base) == "none")
  }

  @Test("results can be written while a call has them, and shrunk never")
  func results() throws {
    let segment = try SharedSegment(1 << 20, isInput: false)
    let mappings = SegmentMappings()
    let base = try mappings.open(
      segment.id, capacity: segment.capacity, used: 1 << 20, isInput: false, dup(segment.descriptor)
    )
    #expect(try access(base) == "rw-s")
    base.storeBytes(of: 7, as: UInt8.self)
    #expect(segment.base.load(as: UInt8.self) == 7)
    #expect(ftruncate(segment.descriptor, 0) != 0)
    mappings.closeAll()
    #expect(try access(base) == "---s")
  }

  @Test("memory that is not known, or used as what it is not, is refused")
  func unknown() throws {
    let mappings = SegmentMappings()
    #expect(throws: StatusError.self) {
      try mappings.open(1, capacity: 4096, used: 64, isInput: true, nil)
    }
    let segment = try SharedSegment(64, isInput: true)
    _ = try mappings.open(
      segment.id, capacity: segment.capacity, used: 64, isInput: true, dup(segment.descriptor))
    #expect(throws: StatusError.self) {
      try mappings.open(segment.id, capacity: segment.capacity, used: 64, isInput: false, nil)
    }
    #expect(throws: StatusError.self) {
      try mappings.open(
        segment.id, capacity: segment.capacity, used: segment.capacity + 1, isInput: true, nil)
    }
  }

  @Test("a message's memory is read-only while a call has it, and zeros afterwards")
  func message() throws {
    let memory = MessageMemory()
    memory.base.storeBytes(of: 0x55, as: UInt8.self)
    memory.protect(10_000)
    #expect(try access(memory.base).hasPrefix("r--"))
    memory.unprotect(10_000)
    memory.clear(10_000)
    #expect(memory.base.load(as: UInt8.self) == 0)
  }
}

import Glibc
import LossdTensor
import Testing

@testable import LossdPluginHost

@Suite struct PackingTests {
  @Test("what is put comes out again, in its order and at its place")
  func roundTrip() {
    let bytes = packed { packer in
      packer.put(UInt8(7))
      packer.put(Int64.min)
      packer.put(Double.pi)
      packer.put("grüße")
      packer.put("")
      if let place = packer.room(3, alignment: 64) { memset(place, 0x5A, 3) }
      packer.put([1.5, -2.5])
      #expect(!packer.isFull)
    }
    bytes.withUnsafeBytes { raw in
      var unpacker = Unpacker(raw)
      #expect(unpacker.take(UInt8.self) == 7)
      #expect(unpacker.take(Int64.self) == .min)
      #expect(unpacker.take(Double.self) == .pi)
      #expect(unpacker.takeText() == "grüße")
      #expect(unpacker.takeText() == "")
      let place = unpacker.takeBytes(3, alignment: 64)
      #expect((unpacker.offset - 3) % 64 == 0)
      #expect(place?.load(fromByteOffset: 2, as: UInt8.self) == 0x5A)
      #expect(unpacker.takeDoubles() == [1.5, -2.5])
      #expect(!unpacker.isBroken)
      #expect(unpacker.offset == raw.count)
    }
  }

  @Test("a packer that is full stays so and writes nothing behind its end")
  func full() {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 32, alignment: 16)
    defer { memory.deallocate() }
    for count in 0..<16 {
      memory.initializeMemory(as: UInt8.self, repeating: 0xEE)
      var packer = Packer(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
      packer.put("0123456789")
      packer.put(UInt16(1))
      packer.put([1.0])
      #expect(packer.isFull)
      #expect(packer.count <= count)
      #expect(memory[count...].allSatisfy { $0 == 0xEE }, "\(count) bytes of room")
    }
  }

  @Test("every cut is noticed, and nothing behind the end is read")
  func truncated() {
    let bytes = packed { packer in
      packer.put(UInt32(3))
      packer.put("abc")
      packer.put([1.0, 2.0])
      _ = packer.room(16, alignment: 64)
    }
    for count in 0..<bytes.count {
      // Behind the bytes there is nothing that the allocator would not notice.
      let copy = Array(bytes[..<count])
      copy.withUnsafeBytes { raw in
        var unpacker = Unpacker(raw)
        _ = unpacker.take(UInt32.self)
        _ = unpacker.takeText()
        _ = unpacker.takeDoubles()
        _ = unpacker.takeBytes(16, alignment: 64)
        #expect(unpacker.isBroken, "\(count) bytes")
        #expect(unpacker.take(UInt64.self) == 0)
        #expect(unpacker.takeBytes(1) == nil)
        #expect(unpacker.offset <= count)
      }
    }
  }

  @Test(
    "a count that cannot be is none, whatever it claims",
    arguments: [
      UInt32.max, 1 << 31, 3, 2,
    ])
  func counts(_ count: UInt32) {
    let bytes = packed { packer in
      packer.put(count)
      packer.put(1.0)
    }
    bytes.withUnsafeBytes { raw in
      var unpacker = Unpacker(raw)
      #expect(unpacker.takeDoubles().isEmpty)
      #expect(unpacker.isBroken)
      var limited = Unpacker(raw)
      #expect(limited.takeCount(1, max: 1) == 0)
      #expect(limited.isBroken)
    }
  }

  @Test("a process's words are harmless, and not too many")
  func words() {
    let bytes = packed { packer in
      packer.put(StatusCode.ok.rawValue)
      packer.put(String(repeating: "\u{1B}[31m\n\u{9B}2J", count: 10_000))
    }
    bytes.withUnsafeBytes { raw in
      var unpacker = Unpacker(raw)
      let error = unpacker.takeError()
      #expect(error.code == .internal, "an error is never OK")
      #expect(error.message.utf8.count <= 3 * Order.textBytesMax)
      #expect(!error.message.unicodeScalars.contains { $0.properties.generalCategory == .control })
    }
  }
}

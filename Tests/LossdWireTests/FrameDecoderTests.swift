import LossdTensor
import LossdWire
import Testing

/// Remembers all that the decoder says.
final class RecordingSink: FrameSink {
  var events: [String] = []
  private let payload = AlignedBuffer(count: 4096)

  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    header.messageLength > 1000 || header.payloadLength > 4096 ? .drop : .receive
  }

  func messageArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) { events.append("\(header.type) \(header.streamID) \(Array(message))") }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition { .receive(payload.base) }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {
    let bytes = UnsafeRawBufferPointer(rebasing: payload.bytes[0..<Int(header.payloadLength)])
    events.append("end \(Array(bytes))")
  }
}

@Suite struct FrameDecoderTests {
  private func frame(
    _ type: FrameType, _ stream: UInt32, _ flags: FrameFlags = [], message: [UInt8] = [],
    payload: [UInt8] = []
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    let header = FrameHeader(
      type: type, streamID: stream, flags: flags, messageLength: UInt32(message.count),
      payloadLength: UInt32(payload.count))
    bytes.withUnsafeMutableBytes { header.encode(into: $0.baseAddress!) }
    return bytes + message + payload
  }

  private func decode(_ pieces: [[UInt8]]) throws(BadFrame) -> [String] {
    let decoder = FrameDecoder(role: .server)
    let sink = RecordingSink()
    for piece in pieces {
      let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 1)
      defer { copy.deallocate() }
      copy.copyBytes(from: piece)
      _ = try decoder.decode(UnsafeRawBufferPointer(copy), sink)
    }
    return sink.events
  }

  @Test("a conversation reads the same whole, byte by byte and cut at every byte")
  func everySplit() throws {
    let bytes =
      frame(.hello, 0, message: [10, 1, 65]) + frame(.open, 1, message: [10, 1, 66])
      + frame(.message, 1, .endStream, message: [1, 2, 3], payload: Array(0..<100))
      + frame(.ping, 0, message: [7]) + frame(.cancel, 1)
    let whole = try decode([bytes])
    #expect(whole.count == 10)
    #expect(try decode(bytes.map { [$0] }) == whole)
    for cut in 0...bytes.count {
      #expect(try decode([Array(bytes[..<cut]), Array(bytes[cut...])]) == whole, "cut at \(cut)")
    }
  }

  @Test("malformed frames are refused")
  func malformed() {
    let hello = frame(.hello, 0)
    var wrongType = frame(.ping, 0)
    wrongType[12] = 0x77
    var reserved = frame(.ping, 0)
    reserved[14] = 1
    var flags = frame(.ping, 0)
    flags[13] = 0x80
    let bad: [(String, [UInt8])] = [
      ("another protocol", Array("GET / HTTP/1.1\r\n".utf8)), ("no hello", frame(.ping, 0)),
      ("second hello", hello + frame(.hello, 0)), ("type", hello + wrongType),
      ("reserved", hello + reserved), ("flags", hello + flags),
      ("status from a client", hello + frame(.status, 1)),
      ("open on stream 0", hello + frame(.open, 0)), ("ping on a stream", hello + frame(.ping, 1)),
      ("payload on open", hello + frame(.open, 1, payload: [1])),
      ("message on cancel", hello + frame(.cancel, 1, message: [1])),
      ("long ping", hello + frame(.ping, 0, message: Array(repeating: 0, count: 65))),
    ]
    for (what, bytes) in bad {
      #expect(throws: BadFrame.self, "\(what)") { try decode([bytes]) }
    }
  }

  @Test("an oversized frame is dropped and the next one read")
  func dropped() throws {
    let events = try decode([
      frame(.hello, 0)
        + frame(.message, 1, message: Array(repeating: 1, count: 1001), payload: [1, 2])
        + frame(.ping, 0, message: [9])
    ])
    #expect(events.contains("PING 0 [9]"))
    #expect(!events.contains { $0.hasPrefix("MESSAGE") })
  }

  @Test("random bytes after a good beginning never do worse than a refusal")
  func garbage() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var state = seed | 1
    for _ in 0..<2000 {
      var bytes = frame(.hello, 0)
      for _ in 0..<64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        bytes.append(UInt8(truncatingIfNeeded: state >> 56) & 0x0F)
      }
      _ = try? decode([bytes])
    }
  }
}

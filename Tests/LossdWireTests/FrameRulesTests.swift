import LossdTensor
import LossdWire
import Testing

/// The tables of docs/protocol.md, row by row.
@Suite struct FrameRulesTests {
  struct BadHeader: Sendable, CustomTestStringConvertible {
    var role: FrameDecoder.Role = .server
    var bytes: [UInt8]
    var reason: String

    init(_ reason: String, _ bytes: [UInt8], _ role: FrameDecoder.Role = .server) {
      self.reason = reason
      self.bytes = bytes
      self.role = role
    }

    var testDescription: String { reason }
  }

  private static func patched(_ bytes: [UInt8], _ index: Int, _ value: UInt8) -> [UInt8] {
    var bytes = bytes
    bytes[index] = value
    return bytes
  }

  private static func lengths(_ type: FrameType, message: UInt32, payload: UInt32 = 0) -> [UInt8] {
    let stream: UInt32 =
      switch type {
      case .open, .message, .status, .cancel, .credit: 1
      default: 0
      }
    return headerBytes(
      FrameHeader(type: type, streamID: stream, messageLength: message, payloadLength: payload))
  }

  static let bad: [BadHeader] = [
    BadHeader("frame type 0x00 is unknown", patched(frameBytes(.ping, 0), 12, 0)),
    BadHeader("frame type 0x0b is unknown", patched(frameBytes(.ping, 0), 12, 0x0B)),
    BadHeader("frame type 0xff is unknown", patched(frameBytes(.ping, 0), 12, 0xFF)),
    BadHeader("frame type 0x09 is unknown", frameBytes(.region, 0)),
    BadHeader("frame type 0x0a is unknown", frameBytes(.release, 0)),
    BadHeader(
      "PING: the reserved bytes are 0x01, expected 0", patched(frameBytes(.ping, 0), 14, 1)),
    BadHeader(
      "PING: the reserved bytes are 0x8000, expected 0", patched(frameBytes(.ping, 0), 15, 0x80)),
    BadHeader(
      "MESSAGE: the flags are 0x02, which it may not carry", frameBytes(.message, 1, .ack)),
    BadHeader("PING: the flags are 0x01, which it may not carry", frameBytes(.ping, 0, .endStream)),
    BadHeader("OPEN: the flags are 0x01, which it may not carry", frameBytes(.open, 1, .endStream)),
    BadHeader(
      "CANCEL: the flags are 0x01, which it may not carry", frameBytes(.cancel, 1, .endStream)),
    BadHeader("CREDIT: the flags are 0x02, which it may not carry", frameBytes(.credit, 1, .ack)),
    BadHeader(
      "GOAWAY: the flags are 0x01, which it may not carry", frameBytes(.goAway, 0, .endStream)),
    BadHeader(
      "MESSAGE: the flags are 0x80, which it may not carry",
      patched(frameBytes(.message, 1), 13, 0x80)),
    BadHeader("HELLO on stream 3, expected stream 0", frameBytes(.hello, 3)),
    BadHeader("PING on stream 1, expected stream 0", frameBytes(.ping, 1)),
    BadHeader("GOAWAY on stream 1, expected stream 0", frameBytes(.goAway, 1)),
    BadHeader("OPEN on stream 0, expected a call's stream", frameBytes(.open, 0)),
    BadHeader("MESSAGE on stream 0, expected a call's stream", frameBytes(.message, 0)),
    BadHeader("CANCEL on stream 0, expected a call's stream", frameBytes(.cancel, 0)),
    BadHeader("CREDIT on stream 0, expected a call's stream", frameBytes(.credit, 0)),
    BadHeader("STATUS is not the client's to send", frameBytes(.status, 1)),
    BadHeader("OPEN is not the server's to send", frameBytes(.open, 1), .client),
    BadHeader("CANCEL is not the server's to send", frameBytes(.cancel, 1), .client),
    BadHeader("HELLO a second time", frameBytes(.hello, 0)),
    BadHeader("HELLO a second time", frameBytes(.hello, 0), .client),
    BadHeader(
      "OPEN: the payload has 1 bytes, expected none", lengths(.open, message: 0, payload: 1)),
    BadHeader(
      "CANCEL: the payload has 1 bytes, expected none", lengths(.cancel, message: 0, payload: 1)),
    BadHeader(
      "CREDIT: the payload has 4294967295 bytes, expected none",
      lengths(.credit, message: 0, payload: .max)),
    BadHeader(
      "PING: the payload has 64 bytes, expected none", lengths(.ping, message: 0, payload: 64)),
    BadHeader(
      "GOAWAY: the payload has 1 bytes, expected none", lengths(.goAway, message: 0, payload: 1)),
    BadHeader("CANCEL: the message has 1 bytes, expected none", lengths(.cancel, message: 1)),
    BadHeader(
      "PING: the message has 65 bytes, expected at most 64", lengths(.ping, message: 65)),
    BadHeader(
      "CREDIT: the message has 4097 bytes, over the limit of 4096",
      lengths(.credit, message: 4097)),
    BadHeader(
      "GOAWAY: the message has 4294967295 bytes, over the limit of 4096",
      lengths(.goAway, message: .max)),
    BadHeader(
      "STATUS: the message has 4097 bytes, over the limit of 4096",
      lengths(.status, message: 4097), .client),
  ]

  @Test(
    "a bad header is refused with what was wrong, as soon as its 16 bytes are there", arguments: bad
  )
  func badHeader(_ header: BadHeader) throws {
    let decoder = try greetedDecoder(header.role)
    let sink = ScriptedSink()
    #expect(throws: BadFrame(header.reason)) { try decoder.feed(header.bytes, sink) }
    #expect(sink.events.isEmpty)
    // What follows is read and ignored: the connection discards input before it closes.
    #expect(try decoder.feed(frameBytes(.ping, 0), sink) == 16)
    #expect(sink.events.isEmpty)
  }

  @Test("the first frame is HELLO, within the limit")
  func helloFirst() {
    for type in FrameType.allCases where type != .hello && type.rawValue <= 8 {
      let decoder = FrameDecoder(role: .server)
      #expect(throws: BadFrame.self, "\(type)") {
        try decoder.feed(Self.lengths(type, message: 0), ScriptedSink())
      }
    }
    #expect(throws: BadFrame("HELLO: the message has 65 bytes, over the limit of 64")) {
      try FrameDecoder(role: .client, maxMessageBytes: 64)
        .feed(Self.lengths(.hello, message: 65), ScriptedSink())
    }
  }

  @Test("REGION and RELEASE are frames once the feature is on")
  func sharedMemory() throws {
    let decoder = try greetedDecoder(sharedMemory: true)
    let sink = ScriptedSink()
    _ = try decoder.feed(frameBytes(.region, 0, message: [8, 1]) + frameBytes(.release, 0), sink)
    #expect(sink.events.count == 4)
    #expect(throws: BadFrame("REGION on stream 1, expected stream 0")) {
      try decoder.feed(frameBytes(.region, 1), sink)
    }
  }

  @Test("the header is little-endian, in the protocol's order")
  func headerBytesAreTheProtocols() {
    let header = FrameHeader(
      type: .message, streamID: 0x0403_0201, flags: .endStream, messageLength: 0x1413_1211,
      payloadLength: 0x2423_2221)
    #expect(
      hexText(headerBytes(header)) == "21222324" + "11121314" + "01020304" + "03" + "01" + "0000")
  }
}

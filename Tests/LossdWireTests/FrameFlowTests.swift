import LossdTensor
import Testing

@testable import LossdWire

/// Waiting, dropping, reading directly, and anything at all in any pieces.
@Suite struct FrameFlowTests {
  @Test("a payload without memory stops the decoder, which asks again with or without bytes")
  func waiting() throws {
    let decoder = try greetedDecoder()
    let sink = ScriptedSink()
    sink.waits = 3
    let bytes = frameBytes(.message, 1, message: [1], payload: [1, 2, 3]) + frameBytes(.ping, 0)
    let used = try decoder.feed(bytes, sink)
    #expect(used == 17)
    #expect(decoder.isWaiting && decoder.isMidFrame)
    #expect(try decoder.feed(Array(bytes[used...]), sink) == 0)
    #expect(try decoder.feed([], sink) == 0)
    #expect(decoder.isWaiting)
    #expect(decoder.directDestination(minimum: 1) == nil)
    #expect(try decoder.feed([], sink) == 0)
    #expect(!decoder.isWaiting && decoder.isMidFrame)
    #expect(try decoder.feed(Array(bytes[used...]), sink) == bytes.count - used)
    #expect(sink.events.suffix(3) == ["end MESSAGE [1, 2, 3]", "PING 0 0 []", "end PING []"])
    #expect(!decoder.isMidFrame)
  }

  @Test("the rest of a payload can be read straight to where it belongs, at every cut")
  func directReads() throws {
    let payload = (0..<200).map { UInt8($0) }
    let bytes = frameBytes(.message, 1, message: [9], payload: payload)
    for cut in 0...200 {
      let decoder = try greetedDecoder()
      let sink = ScriptedSink()
      _ = try decoder.feed(Array(bytes[..<(17 + cut)]), sink)
      let left = 200 - cut
      #expect(decoder.directDestination(minimum: left + 1) == nil)
      guard left > 0 else {
        #expect(decoder.directDestination(minimum: 0) == nil)
        continue
      }
      let first = left / 3
      let destination = try #require(decoder.directDestination(minimum: left))
      #expect(destination.count == left)
      destination.copyBytes(from: payload[cut..<(cut + first)])
      try decoder.directBytesArrived(first, sink)
      let rest = try #require(decoder.directDestination(minimum: 1))
      #expect(rest.count == left - first)
      rest.copyBytes(from: payload[(cut + first)...])
      try decoder.directBytesArrived(left - first, sink)
      #expect(sink.events.last == "end MESSAGE \(payload)")
      #expect(!decoder.isMidFrame)
    }
  }

  @Test("a dropped frame is never buffered and not ended; the next one is read")
  func dropping() throws {
    let decoder = try greetedDecoder()
    let sink = ScriptedSink()
    sink.dropsMessages = true
    let huge = FrameHeader(
      type: .message, streamID: 1, messageLength: 1_000_000, payloadLength: 2_000_000)
    _ = try decoder.feed(headerBytes(huge), sink)
    let piece = [UInt8](repeating: 7, count: 100_000)
    for _ in 0..<30 { #expect(try decoder.feed(piece, sink) == piece.count) }
    #expect(!decoder.isMidFrame && decoder.heldCapacity <= 16 << 10)
    sink.dropsMessages = false
    sink.dropsPayloads = true
    _ = try decoder.feed(
      frameBytes(.message, 3, message: [5], payload: [1, 2]) + frameBytes(.cancel, 3), sink)
    #expect(sink.events == ["MESSAGE 3 0 [5]", "CANCEL 3 0 []", "end CANCEL []"])
  }

  @Test("a frame under way can be given up at any byte, and its memory is not written to again")
  func givingUp() throws {
    let bytes = frameBytes(
      .message, 1, message: [1, 2, 3, 4], payload: [UInt8](repeating: 9, count: 20))
    for cut in 16..<bytes.count {
      let decoder = try greetedDecoder()
      let sink = ScriptedSink()
      _ = try decoder.feed(Array(bytes[..<cut]), sink)
      #expect(decoder.currentHeader?.streamID == 1)
      decoder.dropRestOfFrame()
      sink.payload.bytes.initializeMemory(as: UInt8.self, repeating: 0)
      _ = try decoder.feed(Array(bytes[cut...]) + frameBytes(.ping, 0), sink)
      #expect(sink.payload.bytes.allSatisfy { $0 == 0 }, "cut \(cut)")
      #expect(sink.events.suffix(2) == ["PING 0 0 []", "end PING []"], "cut \(cut)")
      #expect(!sink.events.contains { $0.hasPrefix("end MESSAGE") })
    }
  }

  @Test("memory for a partial message follows the bytes that came; what may still come is known")
  func partialMessages() throws {
    let decoder = try greetedDecoder(maxMessageBytes: .max)
    let sink = ScriptedSink()
    sink.dropsMessagesOver = .max
    let header = FrameHeader(type: .message, streamID: 1, messageLength: 1 << 30)
    _ = try decoder.feed(headerBytes(header) + [1, 2, 3], sink)
    #expect(decoder.heldCapacity <= 16 << 10)
    #expect(decoder.heldBytesMax == 2 << 30)
  }

  @Test("a conversation in any pieces reads the same as whole")
  func randomPieces() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SeededGenerator(state: seed)
    for round in 0..<500 {
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 1...20, using: &random) { bytes += randomFrame(&random) }
      let whole = ScriptedSink()
      #expect(try greetedDecoder().feed(bytes, whole) == bytes.count)
      let pieces = ScriptedSink()
      let decoder = try greetedDecoder()
      var index = 0
      while index < bytes.count {
        let end = min(bytes.count, index + Int.random(in: 1...40, using: &random))
        pieces.waits = Int.random(in: 0...1, using: &random)
        index += try decoder.feed(Array(bytes[index..<end]), pieces)
      }
      #expect(whole.events == pieces.events, "seed \(seed), round \(round)")
    }
  }

  private func randomFrame(_ random: inout SeededGenerator) -> [UInt8] {
    let message = (0..<Int.random(in: 0...60, using: &random)).map { UInt8($0) }
    let payload = (0..<Int.random(in: 0...100, using: &random)).map { UInt8($0) }
    switch Int.random(in: 0..<6, using: &random) {
    case 0: return frameBytes(.open, 1, message: message)
    case 1: return frameBytes(.message, 5, .endStream, message: message, payload: payload)
    case 2: return frameBytes(.message, 7, message: [], payload: payload)
    case 3: return frameBytes(.cancel, 3)
    case 4: return frameBytes(.credit, 9, message: message)
    default: return frameBytes(.ping, 0, .ack, message: message)
    }
  }

  @Test("garbage never does worse than a refusal: 50,000 random and mutated conversations")
  func garbage() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("FrameFlowTests.garbage: seed \(seed)")
    var random = SeededGenerator(state: seed)
    let arena = MessageArena()
    var refusals = 0
    for _ in 0..<50_000 {
      var bytes = randomFrame(&random) + randomFrame(&random)
      for _ in 0..<Int.random(in: 0...3, using: &random) {
        let index = Int.random(in: 0..<min(bytes.count, 20), using: &random)
        bytes[index] = UInt8.random(in: 0...255, using: &random) & 0x1F
      }
      let sink = DecodingSink(arena)
      do { _ = try greetedDecoder().feed(bytes, sink) } catch { refusals += 1 }
    }
    #expect(refusals > 1000)
  }
}

/// Decodes every message as what its frame says it is, and drops payloads.
private final class DecodingSink: FrameSink {
  private let arena: MessageArena

  init(_ arena: MessageArena) { self.arena = arena }

  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition { .receive }

  func messageArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    arena.reset()
    do throws(StatusError) {
      switch header.type {
      case .hello: _ = try HelloMessage(decoding: message, in: arena)
      case .open: _ = try OpenMessage(decoding: message, in: arena).metadata
      case .message: _ = try EvaluateRequestMessage(decoding: message, in: arena)
      case .credit: _ = try CreditMessage(decoding: message, in: arena)
      case .goAway: _ = try GoAwayMessage(decoding: message, in: arena)
      default: break
      }
    } catch {
      throw BadFrame(header, error)
    }
  }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition { .drop }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {}
}

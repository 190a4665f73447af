import LossdHTTP
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

/// What a client of gRPC sends, byte for byte.
private enum Talk {
  static let preface = Array(HTTP2Connection.preface.utf8)
  static let settings = frame(4)

  static func frame(
    _ type: UInt8, _ flags: UInt8 = 0, stream: UInt32 = 0, _ body: [UInt8] = []
  ) -> [UInt8] {
    [UInt8(body.count >> 16), UInt8(body.count >> 8 & 0xFF), UInt8(body.count & 0xFF), type, flags]
      + [UInt8(stream >> 24), UInt8(stream >> 16 & 0xFF), UInt8(stream >> 8 & 0xFF)]
      + [UInt8(stream & 0xFF)] + body
  }

  /// A field that is in no table, and is put into none.
  static func field(_ name: String, _ value: String) -> [UInt8] {
    [0, UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(value.utf8.count)] + Array(value.utf8)
  }

  static func fields(_ path: String, _ more: [(String, String)] = []) -> [UInt8] {
    let all =
      [
        (":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers"),
        ("content-type", "application/grpc"),
      ] + more
    return all.flatMap { field($0.0, $0.1) }
  }

  /// HEADERS and DATA of a whole call.
  static func call(
    _ stream: UInt32, _ path: String, _ message: [UInt8] = [], _ more: [(String, String)] = []
  ) -> [UInt8] {
    frame(1, 4, stream: stream, fields(path, more)) + frame(0, 1, stream: stream, prefixed(message))
  }

  static func prefixed(_ message: [UInt8]) -> [UInt8] {
    [0, 0, 0, UInt8(message.count >> 8), UInt8(message.count & 0xFF)] + message
  }
}

@Suite struct HTTP2SessionTests {
  private func session(_ bench: ChannelBench) -> (Channel) -> Session {
    { bench.server.firstSession($0) }
  }

  /// What comes in turns is all that has been answered so far.
  private func talk(_ parts: [[UInt8]], _ bench: ChannelBench) throws -> (Channel, [UInt8]?, Int32)
  {
    let (channel, client) = try bench.connect(session(bench))
    for part in parts where !part.isEmpty && channel.phase == .open {
      bench.send(part, channel, client)
    }
    return (channel, bench.receive(client), client)
  }

  /// Types and streams of the frames in an answer; nil: they are not whole.
  private func frames(_ bytes: [UInt8]) -> [(type: UInt8, stream: UInt8, body: [UInt8])]? {
    var found: [(UInt8, UInt8, [UInt8])] = []
    var index = 0
    while index < bytes.count {
      guard index + 9 <= bytes.count else { return nil }
      let length = Int(bytes[index]) << 16 | Int(bytes[index + 1]) << 8 | Int(bytes[index + 2])
      guard index + 9 + length <= bytes.count else { return nil }
      found.append(
        (bytes[index + 3], bytes[index + 8], Array(bytes[(index + 9)..<(index + 9 + length)])))
      index += 9 + length
    }
    return found
  }

  @Test("a session answers the same however its bytes are cut")
  func everySplit() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    let text = [UInt8](repeating: 97, count: 40)
    let bytes =
      Talk.preface + Talk.settings + Talk.call(1, "/grpc.health.v1.Health/Check")
      + Talk.call(3, "/none") + Talk.call(5, "/lossd.v1.PluginHost/ListPlugins")
      + Talk.call(7, "/lossd.v1.Evaluator/Evaluate", [0x0A, 40] + text)
    var whole: [[UInt8]]?
    for cut in 0...bytes.count {
      let (channel, answer, _) = try talk([Array(bytes[..<cut]), Array(bytes[cut...])], bench)
      let got = try #require(answer)
      #expect(channel.phase == .open, "cut at \(cut)")
      channel.close()
      // Where a cut lies decides about what is answered first, and so about HPACK's indices:
      // fields are compared by the tests that decode them.
      let kinds = try #require(frames(got)).filter { $0.type < 2 }
      let flat = kinds.map { [$0.stream, $0.type] + ($0.type == 0 ? $0.body : []) }
        .sorted { $0.lexicographicallyPrecedes($1) }
      if let whole { #expect(flat == whole, "cut at \(cut)") } else { whole = flat }
      #expect(bench.server.metrics.snapshot.callsInFlight == 0)
    }
    // Health's answer, and three calls that are answered by fields alone.
    #expect(
      whole == [[1, 0, 0, 0, 0, 0, 2, 8, 1], [1, 1], [1, 1], [3, 1], [5, 1], [7, 1]])
  }

  @Test("one byte at a time")
  func singleBytes() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    let bytes = Talk.preface + Talk.settings + Talk.call(1, "/grpc.health.v1.Health/Check")
    let (_, answer, _) = try talk(bytes.map { [$0] }, bench)
    let got = try #require(answer)
    let found = try #require(frames(got))
    #expect(found.filter { $0.type == 0 }.map(\.body) == [[0, 0, 0, 0, 2, 8, 1]])
    #expect(found.filter { $0.type == 1 }.count == 2)
  }

  @Test("bytes of any kind end a connection or are answered, and leave no call and no memory")
  func mutations() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    var numbers = Numbers(seed)
    let good =
      Talk.preface + Talk.settings + Talk.call(1, "/lossd.v1.Evaluator/Evaluate", [0x0A, 1, 97])
      + Talk.call(3, "/grpc.health.v1.Health/Watch")
      + Talk.call(5, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", [0x3A, 0])
      + Talk.call(7, "/lossd.v1.Evaluator/EvaluateStream", [0x12, 4, 0x22, 2, 0, 0])
      + Talk.frame(3, 0, stream: 7, [0, 0, 0, 8]) + Talk.frame(8, 0, stream: 5, [0, 0, 1, 0])
    for round in 0..<3000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...6, using: &numbers) {
        let place = Int.random(in: Talk.preface.count..<bytes.count, using: &numbers)
        switch Int.random(in: 0..<3, using: &numbers) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &numbers)
        case 1: bytes.remove(at: place)
        default: bytes.insert(UInt8.random(in: 0...255, using: &numbers), at: place)
        }
      }
      let cut = Int.random(in: 0...bytes.count, using: &numbers)
      let (channel, _, _) = try talk([Array(bytes[..<cut]), Array(bytes[cut...])], bench)
      channel.close()
      bench.server.channels.serveTurns()
      #expect(
        bench.server.metrics.snapshot.callsInFlight == 0, "round \(round), LOSSD_SEED=\(seed)")
    }
    #expect(bench.server.daemon.budget.bytesInFlight <= 1 << 20, "the users' lease alone")
  }

  @Test("calls that the client resets are cancelled, and count until then")
  func resets() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    let (channel, client) = try bench.connect(session(bench))
    var bytes = Talk.preface + Talk.settings
    for stream in stride(from: UInt32(1), to: 101, by: 2) {
      bytes += Talk.frame(1, 4, stream: stream, Talk.fields("/lossd.v1.Evaluator/EvaluateStream"))
    }
    bench.send(bytes, channel, client)
    #expect(bench.server.metrics.snapshot.callsInFlight == 50)
    #expect(channel.share.streams == 50)
    for stream in stride(from: UInt32(1), to: 101, by: 2) {
      bench.send(Talk.frame(3, 0, stream: stream, [0, 0, 0, 8]), channel, client)
    }
    #expect(bench.server.metrics.snapshot.callsInFlight == 0)
    #expect(channel.share.streams == 0)
    #expect(channel.phase == .open)
  }

  @Test("a user's calls are limited over its connections, and an answer says so")
  func userStreams() throws {
    var limits = ServerLimits()
    limits.userStreamsMax = 2
    let bench = try ChannelBench(limits)
    defer { bench.close() }
    let (channel, client) = try bench.connect(session(bench))
    var bytes = Talk.preface + Talk.settings
    for stream in [UInt32(1), 3, 5] {
      bytes += Talk.frame(1, 4, stream: stream, Talk.fields("/lossd.v1.Evaluator/EvaluateStream"))
    }
    bench.send(bytes, channel, client)
    #expect(bench.server.metrics.snapshot.callsInFlight == 2)
    let got = try #require(bench.receive(client))
    let found = try #require(frames(got))
    #expect(found.contains { $0.type == 1 && $0.stream == 5 })
    // The rest of its request is not wanted.
    #expect(found.contains { $0.type == 3 && $0.stream == 5 && $0.body == [0, 0, 0, 0] })
  }

  @Test("a message's memory is there before it comes, and waits for nobody who goes")
  func memory() throws {
    var limits = ServerLimits()
    limits.connectionBytesMax = 1 << 20
    limits.totalBytesMax = 2 << 20
    limits.payloadBytesMax = 4 << 20
    let bench = try ChannelBench(limits)
    defer { bench.close() }
    let (channel, client) = try bench.connect(session(bench))
    func begun(_ stream: UInt32, _ bytes: UInt8) -> [UInt8] {
      Talk.frame(1, 4, stream: stream, Talk.fields("/lossd.v1.Evaluator/Evaluate"))
        + Talk.frame(0, 0, stream: stream, [0, 0, bytes, 0, 0])
    }
    bench.send(Talk.preface + Talk.settings + begun(1, 8), channel, client)
    #expect(channel.account.bytesInFlight >= 8 << 16)
    // The second waits; the first one's end lets it go on; what can never be is refused.
    bench.send(begun(3, 8), channel, client)
    #expect(channel.account.bytesInFlight < 16 << 16)
    bench.send(Talk.frame(3, 0, stream: 1, [0, 0, 0, 8]), channel, client)
    bench.send(begun(5, 30), channel, client)
    let got = try #require(bench.receive(client))
    let found = try #require(frames(got))
    #expect(found.contains { $0.type == 1 && $0.stream == 5 })
    channel.close()
    bench.server.channels.serveTurns()
    #expect(bench.server.metrics.snapshot.callsInFlight == 0)
    #expect(channel.account.bytesInFlight == 0)
  }
}

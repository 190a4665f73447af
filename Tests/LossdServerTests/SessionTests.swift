import LossdLoop
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

/// A protocol of lines: each comes back. It shows that a channel asks nothing else of a protocol.
private final class EchoSession: Session {
  private static let lineBytesMax = 100
  private var line: [UInt8] = []
  private var isLeaving = false

  override func begin() { say("hello") }

  override func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    for (index, byte) in bytes.enumerated() {
      if line.isEmpty && channel.pausesReading() { return index }
      if byte != UInt8(ascii: "\n") {
        line.append(byte)
        if line.count > EchoSession.lineBytesMax { fail("the line is too long", .invalidArgument) }
        continue
      }
      let text = String(decoding: line, as: UTF8.self)
      line.removeAll()
      if text == "bye" { isLeaving = true } else { say(text) }
    }
    return bytes.count
  }

  override var reading: Reading { line.isEmpty ? .between : .payload }
  override var heldBytes: Int { line.capacity }
  override var isOver: Bool { isLeaving }
  override func drain() { isLeaving = true }

  override func fail(_ reason: String, _ code: StatusCode) {
    channel.endAfterLastWords { $0.append(bytes: "\(code): \(reason)\n") }
  }

  override func stalled() { fail("nothing comes", .deadlineExceeded) }

  private func say(_ text: String) { channel.send { $0.append(bytes: text + "\n") } }
}

extension OutputBuffer {
  fileprivate func append(bytes text: String) { Array(text.utf8).withUnsafeBytes { append($0) } }
}

@Suite struct SessionTests {
  private static let lossd = Array("LOSSD/1\n".utf8)
  private static let echo = Array("ECHO".utf8)

  private func offers(_ bench: ChannelBench) -> [Sniffer.Offer] {
    [
      Sniffer.Offer(preface: SessionTests.lossd) {
        LossdSession($0, bench.server, bench.server.spareCalls)
      },
      Sniffer.Offer(preface: SessionTests.echo) { EchoSession($0) },
    ]
  }

  private func text(_ bytes: [UInt8]?) -> String? {
    bytes.map { String(decoding: $0, as: UTF8.self) }
  }

  @Test("a second protocol is a session of its own, and needs nothing of the first")
  func echo() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    let (channel, client) = try bench.connect { Sniffer($0, offers(bench)) }
    bench.send(Array("ECHOone\ntw".utf8), channel, client)
    #expect(text(bench.receive(client)) == "hello\none\n")
    bench.send(Array("o\nthree\n".utf8), channel, client)
    #expect(text(bench.receive(client)) == "two\nthree\n")
    bench.send(Array("bye\n".utf8), channel, client)
    #expect(bench.receive(client) == nil)
    #expect(channel.phase == .discarding)
  }

  @Test("what is too long ends with last words, and what comes after them is dropped")
  func lastWords() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    let (channel, client) = try bench.connect { Sniffer($0, offers(bench)) }
    bench.send(Array("ECHO".utf8) + Array(repeating: 65, count: 300), channel, client)
    #expect(text(bench.receive(client)) == "hello\nINVALID_ARGUMENT: the line is too long\n")
    bench.send(Array("more\n".utf8), channel, client)
    #expect(bench.receive(client) == nil)
  }

  @Test("the sniffer chooses by the first bytes, however they are cut")
  func sniffing() throws {
    let talk = SessionTests.echo + Array("one\n".utf8)
    let bench = try ChannelBench()
    defer { bench.close() }
    for cut in 0...talk.count {
      let (channel, client) = try bench.connect { Sniffer($0, offers(bench)) }
      for part in [talk[..<cut], talk[cut...]] where !part.isEmpty {
        bench.send(Array(part), channel, client)
      }
      #expect(text(bench.receive(client)) == "hello\none\n", "cut at \(cut)")
    }
  }

  @Test("other first bytes close the channel at the first wrong one, without an answer")
  func strangers() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    for (bytes, wrongAt) in [
      ("GET / HTTP/1.1", 1), ("LOSSD/2\n", 7), ("LOSSD/1\r", 8), ("PRI *", 1),
    ] {
      let (channel, client) = try bench.connect { Sniffer($0, offers(bench)) }
      let bytes = Array(bytes.utf8)
      if wrongAt > 1 { bench.send(Array(bytes[..<(wrongAt - 1)]), channel, client) }
      #expect(channel.phase == .open)
      bench.send([bytes[wrongAt - 1]], channel, client)
      #expect(channel.phase == .closed)
      #expect(bench.isAtEnd(client))
    }
  }

  @Test("a lossd session answers the same however its bytes are cut")
  func everySplit() throws {
    let frames = OutputBuffer()
    frames.encodePreface()
    frames.encodeFrame(hello: HelloMessage(software: "test"))
    frames.encodeFrame(open: "/lossd.v1.Evaluator/ListFunctions", stream: 1)
    frames.encodeFrame(halfClose: 1)
    frames.encodeFrame(open: "/none", stream: 3)
    frames.encodeFrame(open: "/lossd.v1.PluginHost/ListPlugins", stream: 5)
    let talk = Array(frames.bytes)
    var whole: [UInt8]?
    let bench = try ChannelBench()
    defer { bench.close() }
    for cut in 0...talk.count {
      let (channel, client) = try bench.connect { Sniffer($0, offers(bench)) }
      for part in [talk[..<cut], talk[cut...]] where !part.isEmpty {
        bench.send(Array(part), channel, client)
      }
      let answer = try #require(bench.receive(client))
      channel.close()
      if let whole { #expect(answer == whole, "cut at \(cut)") } else { whole = answer }
      #expect(bench.server.metrics.snapshot.callsInFlight == 0)
    }
    let answer = try #require(text(whole))
    #expect(answer.contains("no method named `/none`"))
    #expect(answer.contains("answers on the admin socket alone"))
  }

  @Test("a channel that drains says so to a client that speaks only afterwards")
  func draining() throws {
    let bench = try ChannelBench()
    defer { bench.close() }
    let (channel, client) = try bench.connect { Sniffer($0, offers(bench)) }
    channel.drain()
    let frames = OutputBuffer()
    frames.encodePreface()
    frames.encodeFrame(hello: HelloMessage(software: "test"))
    frames.encodeFrame(open: "/lossd.v1.Evaluator/ListFunctions", stream: 1)
    bench.send(Array(frames.bytes), channel, client)
    let answer = try #require(text(bench.receive(client)))
    #expect(answer.contains("the daemon is shutting down"))
    #expect(bench.receive(client) == nil, "no call began, and the channel has ended")
  }
}

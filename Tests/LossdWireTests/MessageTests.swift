import LossdTensor
import LossdWire
import Testing

/// Messages against bytes, most of them made by hand, so that encoder and decoder cannot agree on a
/// mistake.
@Suite struct MessageTests {
  private let arena = MessageArena()

  private func request(_ hex: String) throws(StatusError) -> EvaluateRequestMessage {
    let bytes = hexBytes(hex)
    // Views point into the arena, not into these bytes.
    return try decode(bytes) { (bytes, arena) throws(StatusError) in
      try EvaluateRequestMessage(decoding: bytes, in: arena)
    }
  }

  private func decode<T>(
    _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer, MessageArena) throws(StatusError) -> T
  ) throws(StatusError) -> T {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    return try body(UnsafeRawBufferPointer(copy), arena)
  }

  private func text(_ bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes, as: UTF8.self)
  }

  @Test("a request of sigmoid reads as docs/protocol.md says")
  func sigmoid() throws {
    let message = try request(
      "0a077369676d6f6964 1210 0a05696e707574 1001 1a0103 2a02100c 2807")
    #expect(text(message.function) == "sigmoid")
    #expect(message.id == 7)
    #expect(message.inputCount == 1 && message.attributeCount == 0 && message.outputCount == 0)
    let input = message.input(0)
    #expect(text(input.name) == "input")
    #expect(input.dataType == DataType.float32.rawValue)
    #expect(Array(input.shape) == [3])
    let memory = AlignedBuffer.zeroed(count: 12)
    let view = try input.validated(payload: memory.bytes)
    #expect(view.count == 3 && view.data == memory.base)
  }

  @Test("attributes keep their kinds, and of one given twice the last counts")
  func attributes() throws {
    // {a: true}, {b: int 5}, {c: float 0.5}, {d: "x"}, {a: false}, {e: no kind}
    let message = try request(
      "1a07 0a0161 12020801 1a07 0a0162 12021005 1a0e 0a0163 1209 19000000000000e03f"
        + "1a08 0a0164 1203220178 1a07 0a0161 12020800 1a05 0a0165 1200")
    var values: [String: AttributeValue] = [:]
    for index in 0..<message.attributeCount {
      let (name, value) = message.attribute(index)
      values[text(name)] = AttributeValue(value)
    }
    #expect(
      values == ["a": .bool(false), "b": .int(5), "c": .float(0.5), "d": .string("x")])
    #expect(message.attributeCount == 5)
  }

  @Test(
    "what is not a message is refused with where it broke",
    arguments: [
      "0a", "0a05616263", "00", "08", "0aff", "12020aff", "1202",
      "0a0161 0b", "ffffffffffffffffffff01", "1207 0a05 61006263 64", "0a02c328",
      "0a03eda080", "1204 1a0280", "0d01020304", "12031001 0d",
    ])
  func malformed(hex: String) {
    #expect(throws: StatusError.self) { try request(hex) }
  }

  @Test("a request cut at every byte is refused or is a shorter request, never worse")
  func cut() throws {
    let bytes = hexBytes(
      "0a077369676d6f6964 1210 0a05696e707574 1001 1a0103 2a02100c"
        + "1a07 0a0161 12020801 2206 0a0461626364 2807")
    for end in 0..<bytes.count {
      arena.reset()
      do throws(StatusError) {
        let message = try decode(Array(bytes[..<end])) { (bytes, arena) throws(StatusError) in
          try EvaluateRequestMessage(decoding: bytes, in: arena)
        }
        #expect(message.inputCount <= 1)
      } catch {
        #expect(error.code == .invalidArgument, "\(error)")
      }
    }
  }

  @Test("names that come twice are refused, few or many", arguments: [2, 40])
  func repeatedNames(count: Int) throws {
    var hex = ""
    for index in 0..<count { hex += "1204 0a02" + hexText([0x61, UInt8(0x41 + index % 26)]) }
    hex += "1204 0a02" + hexText([0x61, 0x41])
    let message = try request(hex)
    #expect(throws: StatusError.self) { try message.validateNames() }
    let outputs = try request("2203 0a0161 2203 0a0161")
    #expect(throws: StatusError.self) { try outputs.validateNames() }
    try request("2203 0a0161 2203 0a0162").validateNames()
  }

  /// A tensor named t: type, shape and storage as hex.
  private func tensor(_ fields: String, payload: Int = 128) throws(StatusError) -> TensorView {
    let body = hexBytes("0a0174" + fields)
    let message = try request("12" + hexText([UInt8(body.count)]) + hexText(body))
    let memory = AlignedBuffer.zeroed(count: payload)
    return try message.input(0).validated(payload: memory.bytes)
  }

  @Test(
    "tensors that lie are refused by name",
    arguments: [
      // type, shape, offset and length
      ("1000 1a0104 2a021010", "data_type"), ("100b 1a0104 2a021010", "data_type"),
      ("1001 1a0104 2a02100f", "length is 15, expected 16"),
      ("1001 1a0104 2a0408041010", "multiple of 64"),
      ("1001 1a0104 2a05 088001 1010", "outside the payload"),
      ("1001 1a0104 2a0d 08c0ffffffffffffffff01 1010", "outside the payload"),
      ("1001 1a0a ffffffffffffffffff01 2a021010", "shape[0] is -1"),
      ("1001 1a0a 80808080108080808010 2a021010", "2^63"),
      ("1001 1a0104", "no storage"), ("1001 1a0104 2203010203", "data has 3 bytes"),
    ])
  func lyingTensors(fields: String, reason: String) {
    do throws(StatusError) {
      _ = try tensor(fields)
      Issue.record("taken: \(fields)")
    } catch {
      #expect(error.code == .invalidArgument)
      #expect(error.message.hasPrefix("t: ") && error.message.contains(reason), "\(error)")
    }
  }

  @Test("empty tensors and scalars")
  func emptyTensors() throws {
    #expect(try tensor("1001 1a0100").count == 0)
    #expect(try tensor("1001 1a0100 2a03088001").data == nil)
    #expect(try tensor("1002 2a021008").count == 1)
    let empty = try tensor("1001 1a020005 2200")
    #expect(empty.count == 0 && Array(empty.shape) == [0, 5])
  }

  @Test("65 dimensions are one too many")
  func rank() throws {
    let shape = String(repeating: "01", count: 64)
    #expect(try tensor("1001 1a40" + shape + "2a021004").rank == 64)
    #expect(throws: StatusError.self) { try tensor("1001 1a41 01" + shape + "2a021004") }
  }

  @Test("HELLO, STATUS, CREDIT and GOAWAY come back as they were sent")
  func controlRoundTrips() throws {
    let hello = HelloMessage(
      software: "x/1", maxMessageBytes: 5, maxPayloadBytes: 1 << 40, maxStreams: 7, streamCredit: 9,
      features: ["shm", "b"])
    let status = StatusMessage(
      StatusError(.notFound, "no", metadata: ["lossd-batch-id": "3", "b": "c"]))
    let goAway = GoAwayMessage(lastStreamID: 5, status: StatusMessage(code: 3, message: "bad"))
    let buffer = OutputBuffer()
    buffer.encodeFrame(hello: hello)
    buffer.encodeFrame(status: status, stream: 1)
    buffer.encodeFrame(goAway: goAway)
    buffer.encodeFrame(credit: 1 << 31, stream: 1)
    var messages: [[UInt8]] = []
    var rest = Array(buffer.bytes)
    while !rest.isEmpty {
      let length = Int(rest[4]) + Int(rest[5]) << 8
      messages.append(Array(rest[16..<16 + length]))
      rest.removeFirst(16 + length)
    }
    #expect(
      try decode(messages[0]) { (b, a) throws(StatusError) in try HelloMessage(decoding: b, in: a) }
        == hello)
    #expect(
      try decode(messages[1]) { (b, a) throws(StatusError) in try StatusMessage(decoding: b, in: a)
      } == status)
    #expect(
      try decode(messages[2]) { (b, a) throws(StatusError) in try GoAwayMessage(decoding: b, in: a)
      } == goAway)
    #expect(
      try decode(messages[3]) { (b, a) throws(StatusError) in try CreditMessage(decoding: b, in: a)
      }.messages == 1 << 31)
    #expect(throws: StatusError.self) {
      try decode([8, 0]) { (b, a) throws(StatusError) in try CreditMessage(decoding: b, in: a) }
    }
  }

  @Test("ListFunctions and GetStatus come back as they were sent")
  func serviceRoundTrips() throws {
    let functions = ListFunctionsResponse(functions: [
      FunctionDescription(
        name: "f", kind: "loss", summary: "s",
        inputs: [
          .init(name: "i", help: "h", dataTypes: [.float32, .bool], isRequired: true, isKept: true)
        ],
        outputs: [.init(name: "o", help: "p", isDefault: true)],
        attributes: [
          .init(
            name: "a", help: "q", type: "float", isRequired: true, defaultValue: .float(0.5),
            minimum: .float(-1), maximum: .float(1), choices: ["x", "y"])
        ], plugin: "p", version: "1")
    ])
    var status = GetStatusResponse()
    status.version = "v"
    status.rows = 1 << 50
    status.isDraining = true
    status.listeners = ["unix:/a", "tcp:b:1"]
    status.limits.maxStreams = 4
    var latency = FunctionLatencyMessage()
    latency.function = "f"
    latency.p999Microseconds = 1.5
    status.latencies = [latency]
    let buffer = OutputBuffer()
    buffer.encodeMessage(functions: functions)
    let first = Array(buffer.bytes)
    #expect(
      try decode(first) { (b, a) throws(StatusError) in
        try ListFunctionsResponse(decoding: b, in: a)
      } == functions)
    buffer.removeAll()
    buffer.encodeMessage(daemonStatus: status)
    let second = Array(buffer.bytes)
    #expect(
      try decode(second) { (b, a) throws(StatusError) in try GetStatusResponse(decoding: b, in: a) }
        == status)
    #expect(throws: StatusError.self) {
      try buffer.encodeFrame(daemonStatus: status, stream: 1, maxMessageBytes: 8)
    }
  }

  @Test("hostile messages cost bounded memory: 20,000 mutations of a request")
  func mutations() throws {
    let seed = UInt64.random(in: 0 ... .max)
    var generator = SeededGenerator(state: seed)
    let good = hexBytes(
      "0a077369676d6f6964 1210 0a05696e707574 1001 1a0103 2a02100c"
        + "1a07 0a0161 12020801 2206 0a0461626364 2807")
    for _ in 0..<20_000 {
      arena.reset()
      var bytes = good
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
        case 1: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
        default: if bytes.count > 1 { bytes.remove(at: place) }
        }
      }
      do throws(StatusError) {
        let message = try decode(bytes) { (bytes, arena) throws(StatusError) in
          try EvaluateRequestMessage(decoding: bytes, in: arena)
        }
        try message.validateNames()
        let memory = AlignedBuffer.zeroed(count: 64)
        for index in 0..<message.inputCount {
          let view = try message.input(index).validated(payload: memory.bytes)
          #expect(view.byteCount <= 64 || view.data != memory.base, "seed \(seed)")
        }
      } catch {
        #expect(!error.message.isEmpty, "seed \(seed)")
      }
      #expect(arena.capacity < 4 << 20, "seed \(seed)")
    }
  }
}

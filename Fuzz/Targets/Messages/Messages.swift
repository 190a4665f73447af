import FuzzSupport
import LossdTensor

@testable import LossdWire

/// Every message of either side. An input is a byte that says which, and the message. Whatever
/// decodes has to encode, and what was encoded has to decode to the same bytes again; memory has to
/// stay within the arena's budget.
@main struct Messages {
  static func main() {
    fuzz { input in
      let kind = kinds[Int(input.byte()) % kinds.count]
      withCopy(input.rest()) { bytes in
        let arena = MessageArena()
        do throws(StatusError) {
          try kind.check(bytes, arena)
        } catch {
          require(error.code == .invalidArgument || error.code == .resourceExhausted, "\(error)")
          require(error.message.utf8.count < 2000, "a text of \(error.message.utf8.count) bytes")
        }
        // What a server charges before it decodes; the root message comes on top.
        let bound =
          MessageArena.bytesMax(messageBytes: bytes.count, fields: bytes.count / 2) + (8 << 10)
        require(arena.capacity <= bound, "\(arena.capacity) bytes for \(bytes.count)")
      }
    }
  }
}

/// A kind of message.
protocol Checked: SendableMetatype {
  /// Decodes bytes as this kind and looks at what came of it.
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError)
}

/// A message that can be encoded from what was decoded.
protocol Returning: Checked {
  init(decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena) throws(StatusError)
  func encode(into output: OutputBuffer) throws(StatusError)
}

extension Returning {
  /// Decodes, encodes, decodes and encodes again.
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError) {
    let message = try Self(decoding: bytes, in: arena)
    let first = OutputBuffer()
    let second = OutputBuffer()
    do throws(StatusError) {
      try message.encode(into: first)
      let other = MessageArena()
      let encoded = UnsafeRawBufferPointer(rebasing: first.bytes.dropFirst(FrameHeader.byteCount))
      try Self(decoding: encoded, in: other).encode(into: second)
    } catch { fatalError("what was decoded does not come back: \(error)") }
    require(first.bytes.elementsEqual(second.bytes), "what was encoded comes back as another")
  }
}

private let kinds: [any Checked.Type] = [
  HelloMessage.self, OpenMessage.self, StatusMessage.self, CreditMessage.self, GoAwayMessage.self,
  RegionMessage.self, RegionResultMessage.self, ListFunctionsRequest.self,
  ListFunctionsResponse.self,
  GetStatusRequest.self, GetStatusResponse.self, ListPlugins.self, LoadPlugin.self,
  ReloadPlugin.self,
  UnloadPlugin.self, ListedPlugins.self, LoadedPlugin.self, EvaluateRequestMessage.self,
  EvaluateResponseMessage.self, AnyText.self,
]

/// Not a message: any text, which the library's own reading of UTF-8 judges too.
private enum AnyText: Checked {
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) {
    let isGood = String(validating: bytes, as: UTF8.self) != nil && !bytes.contains(0)
    require((textProblem(bytes) == nil) == isGood, "\(Array(bytes)) is taken for what it is not")
    // What grows most: two bytes of a format character, which are shown as `\u{600}`.
    require(displayText(bytes).utf8.count <= 80 / 2 * 7 + 3, "a long text")
  }
}

extension HelloMessage: Returning {
  func encode(into output: OutputBuffer) { output.encodeFrame(hello: self) }
}

extension OpenMessage: Checked {
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError) {
    let open = try OpenMessage(decoding: bytes, in: arena)
    require(open.timeoutMicroseconds <= OpenMessage.maxTimeoutMicroseconds, "a longer timeout")
    require(open.metadataCount == open.metadata.count, "metadata are lost")
    _ = (open.method.count, open.credit)
  }
}

extension StatusMessage: Returning {
  func encode(into output: OutputBuffer) {
    _ = error
    output.encodeFrame(status: self, stream: 1)
  }
}

extension CreditMessage: Returning {
  func encode(into output: OutputBuffer) { output.encodeFrame(credit: messages, stream: 1) }
}

extension GoAwayMessage: Returning {
  func encode(into output: OutputBuffer) { output.encodeFrame(goAway: self) }
}

extension RegionMessage: Returning {
  func encode(into output: OutputBuffer) { output.encodeFrame(region: self) }
}

extension RegionResultMessage: Returning {
  func encode(into output: OutputBuffer) {
    output.encodeFrame(regionResult: self, releasing: false)
  }
}

extension ListFunctionsRequest: Returning {
  func encode(into output: OutputBuffer) throws(StatusError) {
    try output.encodeFrame(listFunctions: self, stream: 1)
  }
}

extension ListFunctionsResponse: Returning {
  func encode(into output: OutputBuffer) throws(StatusError) {
    try output.encodeFrame(functions: self, stream: 1)
  }
}

extension GetStatusRequest: Checked {
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError) {
    _ = try GetStatusRequest(decoding: bytes, in: arena)
  }
}

extension GetStatusResponse: Returning {
  func encode(into output: OutputBuffer) throws(StatusError) {
    try output.encodeFrame(daemonStatus: self, stream: 1)
  }
}

// MARK: - Plugins

/// What the PluginHost service is asked, by the method that it comes with.
protocol PluginAsking: Returning {
  static func decode(
    _ bytes: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) -> PluginRequest
  init(_ request: PluginRequest)
  var request: PluginRequest { get }
}

extension PluginAsking {
  init(decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena) throws(StatusError) {
    self.init(try Self.decode(bytes, arena))
  }
  func encode(into output: OutputBuffer) { output.encodeFrame(plugins: request, stream: 1) }
}

struct ListPlugins: PluginAsking {
  let request: PluginRequest
  init(_ request: PluginRequest) { self.request = request }
  static func decode(
    _ bytes: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) -> PluginRequest { try PluginRequest.decodeList(bytes, in: arena) }
}

struct LoadPlugin: PluginAsking {
  let request: PluginRequest
  init(_ request: PluginRequest) { self.request = request }
  static func decode(
    _ bytes: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) -> PluginRequest { try PluginRequest.decodeLoad(bytes, in: arena) }
}

struct ReloadPlugin: PluginAsking {
  let request: PluginRequest
  init(_ request: PluginRequest) { self.request = request }
  static func decode(
    _ bytes: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) -> PluginRequest { try PluginRequest.decodeReload(bytes, in: arena) }
}

struct UnloadPlugin: PluginAsking {
  let request: PluginRequest
  init(_ request: PluginRequest) { self.request = request }
  static func decode(
    _ bytes: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) -> PluginRequest { try PluginRequest.decodeUnload(bytes, in: arena) }
}

struct ListedPlugins: Returning {
  let plugins: PluginsResponse
  init(decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena) throws(StatusError) {
    plugins = try decodePlugins(bytes, answering: .list, in: arena)
  }
  func encode(into output: OutputBuffer) throws(StatusError) {
    try output.encodeFrame(plugins: plugins, answering: .list, stream: 1, maxMessageBytes: .max)
  }
}

struct LoadedPlugin: Returning {
  let plugins: PluginsResponse
  init(decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena) throws(StatusError) {
    plugins = try decodePlugins(bytes, answering: .load(""), in: arena)
  }
  func encode(into output: OutputBuffer) throws(StatusError) {
    try output.encodeFrame(plugins: plugins, answering: .load(""), stream: 1, maxMessageBytes: .max)
  }
}

// MARK: - Evaluate

extension EvaluateRequestMessage: Checked {
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError) {
    let request = try EvaluateRequestMessage(decoding: bytes, in: arena)
    try FuzzMessages.check(request)
    withExtendedLifetime(arena) {}
  }
}

extension EvaluateResponseMessage: Checked {
  static func check(_ bytes: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError) {
    let response = try EvaluateResponseMessage(decoding: bytes, in: arena)
    for index in 0..<response.outputCount { FuzzMessages.check(response.output(index)) }
    _ = (response.id, response.summary)
    withExtendedLifetime(arena) {}
  }
}

private func check(_ request: EvaluateRequestMessage) throws(StatusError) {
  var names = Set<[UInt8]>()
  for index in 0..<request.attributeCount {
    let (name, value) = request.attribute(index)
    require(names.insert(Array(name)).inserted, "an attribute comes twice")
    if case .string(let text) = value { _ = displayText(text) }
  }
  try request.validateNames()
  var outputs = Set<[UInt8]>()
  for index in 0..<request.outputCount {
    require(outputs.insert(Array(request.output(index).name)).inserted, "an output comes twice")
  }
  var inputs = Set<[UInt8]>()
  for index in 0..<request.inputCount {
    let tensor = request.input(index)
    require(inputs.insert(Array(tensor.name)).inserted, "an input comes twice")
    check(tensor)
  }
  // What a client would send for it.
  guard request.inputCount < 32, let whole = outgoing(request) else { return }
  defer { whole.inputs.deallocate() }
  let output = OutputBuffer()
  do throws(StatusError) {
    try output.encodeFrame(request: whole, stream: 1, endStream: true, payloadLength: 0)
    let other = MessageArena()
    let again = try EvaluateRequestMessage(
      decoding: UnsafeRawBufferPointer(rebasing: output.bytes.dropFirst(FrameHeader.byteCount)),
      in: other)
    require(
      again.inputCount == request.inputCount && again.attributeCount == whole.attributes.count
        && again.outputCount == request.outputCount && again.id == request.id
        && again.function.elementsEqual(request.function), "the request comes back as another")
  } catch { fatalError("the request does not come back: \(error)") }
}

/// A request as a client builds one, whose inputs are the caller's to free; nil where a type is
/// none that it could send.
private func outgoing(_ request: EvaluateRequestMessage) -> OutgoingRequest? {
  var tensors: [OutgoingTensor] = []
  for index in 0..<request.inputCount {
    let input = request.input(index)
    guard let type = DataType(rawValue: input.dataType) else { return nil }
    tensors.append(
      OutgoingTensor(
        name: input.name, dataType: type, shape: input.shape, storage: input.storage))
  }
  let buffer = UnsafeMutableBufferPointer<OutgoingTensor>.allocate(capacity: tensors.count)
  _ = buffer.initialize(from: tensors)
  let attributes = (0..<request.attributeCount).compactMap { index in
    let (name, value) = request.attribute(index)
    return AttributeValue(value).map { (String(decoding: name, as: UTF8.self), $0) }
  }
  let outputs = (0..<request.outputCount).map { index in
    let (name, into) = request.output(index)
    return (String(decoding: name, as: UTF8.self), into)
  }
  return OutgoingRequest(
    function: String(decoding: request.function, as: UTF8.self),
    inputs: UnsafeBufferPointer(buffer), attributes: attributes, outputs: outputs, id: request.id)
}

/// Looks at a tensor of any message, and at every byte that it says it has.
private func check(_ tensor: TensorMessage) {
  let payload = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 64)
  payload.initializeMemory(as: UInt8.self, repeating: 1)
  defer { payload.deallocate() }
  do throws(StatusError) {
    let layout = try tensor.layout()
    require(layout.count >= 0 && layout.byteCount >= 0, "\(layout.count) elements")
    let view = try tensor.validated(payload: payload)
    require(view.count == layout.count, "\(view.count) of \(layout.count) elements")
    if let data = view.data {
      // Reads all of it: the address sanitizer sees where it lies.
      var sum: UInt8 = 0
      for byte in UnsafeRawBufferPointer(start: data, count: view.byteCount) { sum ^= byte }
      _ = sum
    } else {
      require(view.count == 0, "\(view.count) elements without memory")
    }
    try validateBools(tensor.displayName, view)
  } catch {
    require(
      error.code == .invalidArgument || error.code == .failedPrecondition, "\(error)")
  }
}

import LossdClient
import LossdFiles
import LossdTensor
import LossdWire

/// What a part of a data set came to, in a file: the function, its attributes and the Summary, as
/// the lossd.v1.EvaluateRequest that goes on from it. `lossctl eval --save-state` writes one,
/// `lossctl merge` reads them.
struct StateFile {
  /// No Summary is as long.
  private static let bytesMax = 16 << 20

  let path: String
  let function: String
  let attributes: [String: AttributeValue]
  let summary: SummaryMessage

  init(
    path: String, function: String, attributes: [String: AttributeValue], summary: SummaryMessage
  ) {
    (self.path, self.function, self.attributes) = (path, function, attributes)
    self.summary = summary
  }

  init(reading path: String) throws {
    self.path = path
    let bytes = try SmallFile.read(path, bytesMax: StateFile.bytesMax)
    let arena = MessageArena()
    do throws(StatusError) {
      (function, attributes, summary) = try bytes.withUnsafeBufferPointer {
        (bytes) throws(StatusError) in
        let request = try EvaluateRequestMessage(
          decoding: UnsafeRawBufferPointer(bytes), in: arena)
        guard request.summaryCount == 1, request.function.count > 0 else {
          throw StatusError(.invalidArgument, "it has no Summary of a function")
        }
        var attributes: [String: AttributeValue] = [:]
        for index in 0..<request.attributeCount {
          let (name, value) = request.attribute(index)
          attributes[String(decoding: name, as: UTF8.self)] = AttributeValue(value)
        }
        return (String(decoding: request.function, as: UTF8.self), attributes, request.summary(0))
      }
    } catch {
      throw Complaint(
        "\(path): this is no state that lossctl eval --save-state writes: \(error.message.shown)")
    }
  }

  func write() throws {
    let buffer = OutputBuffer()
    let request = OutgoingRequest(
      function: function, inputs: UnsafeBufferPointer(start: nil, count: 0),
      attributes: attributes.sorted { $0.key < $1.key }.map { ($0.key, $0.value) },
      summaries: [summary])
    try buffer.encodeFrame(request: request, stream: 1, endStream: true, payloadLength: 0)
    try SmallFile.write(Array(buffer.bytes[FrameHeader.byteCount...]), to: path)
  }

  /// Throws where the two are not parts of one evaluation.
  func check(_ other: StateFile) throws {
    func differ(_ what: String) -> Complaint {
      Complaint("\(other.path) does not belong to \(path): \(what)")
    }
    guard other.function == function else {
      throw differ("it is of \(other.function.shown), not of \(function.shown)")
    }
    for name in Set(attributes.keys).union(other.attributes.keys).sorted()
    where attributes[name] != other.attributes[name] {
      func text(_ value: AttributeValue?) -> String { value.map { "\($0)".shown } ?? "not given" }
      throw differ(
        "\(name.shown) is \(text(other.attributes[name])), not \(text(attributes[name]))")
    }
  }
}

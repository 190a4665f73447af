import CLossdProto
import LossdTensor

/// What to evaluate: a view, valid until its arena is reset.
public struct EvaluateRequestMessage {
  let raw: UnsafeMutablePointer<Lossd__V1__EvaluateRequest>

  /// INVALID_ARGUMENT when it does not decode, RESOURCE_EXHAUSTED when it asks for too much memory.
  /// Of an attribute given twice the last counts, as for every protobuf map.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    raw = try arena.decode(lossd__v1__evaluate_request__init, bytes)
    raw.pointee.n_attributes = keepLastOfEachKey(
      raw.pointee.attributes, raw.pointee.n_attributes)
  }

  /// What decoding these bytes may take of an arena at the most, for who charges it first. Throws
  /// as decoding does.
  public static func decodedBytesMax(_ bytes: UnsafeRawBufferPointer) throws(StatusError) -> Int {
    let fields = try withUnsafePointer(to: lossd__v1__evaluate_request__descriptor) {
      (descriptor) throws(StatusError) in
      try WireScan.check(bytes, descriptor, fieldsMax: MessageArena.requestFieldsMax)
    }
    return MessageArena.bytesMax(messageBytes: bytes.count, fields: fields)
  }

  /// Empty in a stream's later requests.
  public var function: UnsafeRawBufferPointer { textBytes(raw.pointee.function) }

  /// Returned with the response.
  public var id: UInt64 { raw.pointee.id }

  public var inputCount: Int { raw.pointee.n_inputs }

  /// `index` is below `inputCount`.
  public func input(_ index: Int) -> TensorMessage {
    precondition(index >= 0 && index < inputCount)
    return TensorMessage(raw: raw.pointee.inputs[index]!)
  }

  public var attributeCount: Int { raw.pointee.n_attributes }

  /// `index` is below `attributeCount`; no name comes twice.
  public func attribute(_ index: Int) -> (name: UnsafeRawBufferPointer, value: AttributeArgument) {
    precondition(index >= 0 && index < attributeCount)
    let entry = raw.pointee.attributes[index]!
    return (textBytes(entry.pointee.key), AttributeArgument(entry.pointee.value))
  }

  /// 0: the function's result alone.
  public var outputCount: Int { raw.pointee.n_outputs }

  /// `index` is below `outputCount`; `into` is where in shared memory the result goes, nil: into
  /// the response's payload.
  public func output(_ index: Int) -> (name: UnsafeRawBufferPointer, into: SharedRange?) {
    precondition(index >= 0 && index < outputCount)
    let output = raw.pointee.outputs[index]!
    return (textBytes(output.pointee.name), output.pointee.into.map { SharedRange($0.pointee) })
  }

  /// What parts of the data set came to before.
  public var summaryCount: Int { raw.pointee.n_summaries }

  /// `index` is below `summaryCount`. Copies.
  public func summary(_ index: Int) -> SummaryMessage {
    precondition(index >= 0 && index < summaryCount)
    return SummaryMessage(raw.pointee.summaries[index]!.pointee)
  }

  /// INVALID_ARGUMENT when two inputs or two outputs have the same name.
  public func validateNames() throws(StatusError) {
    if let name = repeatedName(inputCount, { input($0).name }) {
      throw StatusError(.invalidArgument, "input \"\(displayText(name))\" is given twice")
    }
    if let name = repeatedName(outputCount, { output($0).name }) {
      throw StatusError(.invalidArgument, "output \"\(displayText(name))\" is asked for twice")
    }
  }
}

/// A part of a region of shared memory, bytes, as a peer said it: unchecked.
public struct SharedRange: Sendable, Equatable {
  public var region: UInt64
  public var offset: UInt64
  public var length: UInt64

  public init(region: UInt64, offset: UInt64, length: UInt64) {
    self.region = region
    self.offset = offset
    self.length = length
  }

  init(_ raw: Lossd__V1__SharedRange) {
    self.init(region: raw.region, offset: raw.offset, length: raw.length)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__SharedRange> {
    let raw = arena.make(lossd__v1__shared_range__init)
    raw.pointee.region = region
    raw.pointee.offset = offset
    raw.pointee.length = length
    return raw
  }
}

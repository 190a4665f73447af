import LossdTensor

/// A tensor of a message to be encoded. Everything is borrowed until the encoding call returns.
public struct OutgoingTensor {
  /// UTF-8 without NUL.
  public var name: UnsafeRawBufferPointer
  public var dataType: DataType
  public var shape: UnsafeBufferPointer<Int64>
  public var storage: TensorStorage

  public init(
    name: UnsafeRawBufferPointer, dataType: DataType, shape: UnsafeBufferPointer<Int64>,
    storage: TensorStorage
  ) {
    self.name = name
    self.dataType = dataType
    self.shape = shape
    self.storage = storage
  }
}

/// One entry of a Summary's maps, borrowed until the encoding call returns.
public struct NamedValue {
  /// UTF-8 without NUL.
  public var name: UnsafeRawBufferPointer
  public var value: Double

  public init(name: UnsafeRawBufferPointer, value: Double) {
    self.name = name
    self.value = value
  }
}

/// A Summary to be encoded, borrowed until the encoding call returns.
public struct OutgoingSummary {
  public var batches: UInt64
  public var rows: UInt64
  public var values: UnsafeBufferPointer<NamedValue>
  public var state: UnsafeBufferPointer<NamedValue>
  public var whole: StateMessage?

  public init(
    batches: UInt64, rows: UInt64, values: UnsafeBufferPointer<NamedValue>,
    state: UnsafeBufferPointer<NamedValue>, whole: StateMessage? = nil
  ) {
    self.batches = batches
    self.rows = rows
    self.values = values
    self.state = state
    self.whole = whole
  }
}

/// An EvaluateResponse to be encoded, borrowed until the encoding call returns.
public struct OutgoingResponse {
  public var id: UInt64
  public var outputs: UnsafeBufferPointer<OutgoingTensor>
  public var summary: OutgoingSummary?

  public init(
    id: UInt64, outputs: UnsafeBufferPointer<OutgoingTensor>, summary: OutgoingSummary? = nil
  ) {
    self.id = id
    self.outputs = outputs
    self.summary = summary
  }
}

/// An EvaluateRequest to be encoded; its tensors are borrowed until the encoding call returns.
public struct OutgoingRequest {
  /// Empty in a stream's later requests.
  public var function: String
  public var inputs: UnsafeBufferPointer<OutgoingTensor>
  public var attributes: [(name: String, value: AttributeValue)]
  public var outputs: [(name: String, into: SharedRange?)]
  public var id: UInt64
  /// What parts of the data set came to before.
  public var summaries: [SummaryMessage]

  public init(
    function: String, inputs: UnsafeBufferPointer<OutgoingTensor>,
    attributes: [(name: String, value: AttributeValue)] = [],
    outputs: [(name: String, into: SharedRange?)] = [], id: UInt64 = 0,
    summaries: [SummaryMessage] = []
  ) {
    self.function = function
    self.inputs = inputs
    self.attributes = attributes
    self.outputs = outputs
    self.id = id
    self.summaries = summaries
  }
}

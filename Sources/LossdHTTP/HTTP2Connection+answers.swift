import CNGHTTP2

/// A field of an answer. Its bytes are copied where they are not static.
public struct HTTP2Field {
  let name: StaticString
  let value: UnsafeRawBufferPointer
  var isStatic = false
  /// It is another one each time: HPACK's table is not for it.
  var isRare = false

  public init(_ name: StaticString, _ value: StaticString) {
    self.name = name
    self.value = UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount)
    isStatic = true
  }

  /// `value` is borrowed until it is submitted.
  public init(_ name: StaticString, _ value: UnsafeRawBufferPointer) {
    self.name = name
    self.value = value
    isRare = true
  }
}

extension HTTP2Connection {
  /// Answers with these fields, and what the sink has of a body for `context`; nil: without a body,
  /// and the stream's answer ends with them. False: the stream is gone.
  public func answer(
    _ stream: Int32, _ fields: UnsafeBufferPointer<HTTP2Field>,
    body context: UnsafeMutableRawPointer?
  ) -> Bool {
    let session = session
    return withFields(fields) { base, count in
      guard let context else {
        return nghttp2_submit_response(session, stream, base, count, nil) == 0
      }
      var provider = nghttp2_data_provider()
      provider.source.ptr = context
      provider.read_callback = { session, stream, _, length, flags, source, data in
        let box = data.unsafelyUnwrapped
          .assumingMemoryBound(to: Unmanaged<HTTP2Connection>?.self)
        guard let connection = box.pointee,
          let context = source.unsafelyUnwrapped.pointee.ptr, let flags
        else { return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
        return connection._withUnsafeGuaranteedRef { connection in
          let (count, isEnd) = connection.withSink { $0.bodyNeeded(context, length: length) }
          if isEnd {
            flags.pointee |=
              NGHTTP2_DATA_FLAG_EOF.rawValue | NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
            connection.withSink { $0.bodyEnded(stream, context) }
          } else if count == 0 {
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
          }
          flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
          return count
        }
      }
      return nghttp2_submit_response(session, stream, base, count, &provider) == 0
    }
  }

  /// Ends the stream's answer with these fields.
  @discardableResult
  public func trailers(_ stream: Int32, _ fields: UnsafeBufferPointer<HTTP2Field>) -> Bool {
    let session = session
    return withFields(fields) { nghttp2_submit_trailer(session, stream, $0, $1) == 0 }
  }

  private func withFields(
    _ fields: UnsafeBufferPointer<HTTP2Field>, _ body: (UnsafePointer<nghttp2_nv>?, Int) -> Bool
  ) -> Bool {
    withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: max(fields.count, 1)) { entries in
      for (index, field) in fields.enumerated() {
        var flags = NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue
        if field.isStatic { flags |= NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue }
        if field.isRare { flags |= NGHTTP2_NV_FLAG_NO_INDEX.rawValue }
        // nghttp2 only reads through these pointers.
        (entries.baseAddress.unsafelyUnwrapped + index).initialize(
          to: nghttp2_nv(
            name: UnsafeMutablePointer(mutating: field.name.utf8Start),
            value: UnsafeMutablePointer(
              mutating: field.value.bindMemory(to: UInt8.self).baseAddress),
            namelen: field.name.utf8CodeUnitCount, valuelen: field.value.count,
            flags: UInt8(flags)))
      }
      return body(entries.baseAddress, fields.count)
    }
  }
}

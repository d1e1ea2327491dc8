//! Parquet records as the JSON that the same rows have in JSON Lines.
//!
//! Numbers stay numbers, class labels too; a list is an array, a struct an object. An absent value is `null`, and so is a
//! number that is not finite. Dates and times are the numbers that are stored. Bytes, decimals and maps have no JSON of
//! their own: what holds them is left out.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::DatasetError;

pub(super) fn read(
    path: &Path,
    limit: usize,
    each: &mut dyn FnMut(Value) -> Result<(), String>,
) -> Result<usize, DatasetError> {
    let broken = |reason: String| DatasetError::invalid(path, reason);
    let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
    let reader = contained(|| SerializedFileReader::new(file)).map_err(broken)?;
    let promised = reader.metadata().file_metadata().num_rows();
    let n_rows = usize::try_from(promised)
        .map_err(|_| DatasetError::invalid(path, format!("it claims to have {promised} rows")))?;
    let wanted = n_rows.min(limit);
    let mut records = contained(|| reader.get_row_iter(None)).map_err(broken)?;
    for number in 1..=wanted {
        let at_row =
            |reason: String| DatasetError::invalid(path, format!("row {number}: {reason}"));
        let absent = || ParquetError::EOF(format!("it is not there, of {n_rows} promised"));
        let record = contained(|| records.next().unwrap_or_else(|| Err(absent())));
        let record = record.map_err(at_row)?;
        each(object(record)).map_err(at_row)?;
    }
    Ok(n_rows)
}

/// Turns a panic of the decoder, which some damaged files cause, into an error.
fn contained<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(_panic) => Err("its data contradicts itself".to_owned()),
    }
}

fn object(record: Row) -> Value {
    let columns = record.into_columns().into_iter();
    let members = columns.filter_map(|(name, field)| Some((name, value(field)?)));
    Value::Object(members.collect::<Map<_, _>>())
}

/// `None` for what has no JSON.
fn value(field: Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => value.into(),
        Field::Long(value)
        | Field::TimeMicros(value)
        | Field::TimestampMillis(value)
        | Field::TimestampMicros(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float16(value) => value.to_f32().into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        Field::Group(record) => object(record),
        Field::ListInternal(list) => {
            let elements = list.elements().iter().cloned().map(value);
            elements.collect::<Option<Vec<_>>>()?.into()
        }
        Field::Bytes(_) | Field::Decimal(_) | Field::MapInternal(_) => return None,
    })
}
